"""Workers of one machine that start with nothing compiled: one compiles, and the others load what it compiled."""

from __future__ import annotations

import pytest
from clusters import environment, free_port, listens, printed, replayed, started, wait_for
from commands import lapsbench, process
from test_on import same

pytest.importorskip("distributed", reason="takes Dask: pip install 'lapsbench[cluster]'")

LINE = "replay --engine ideal --limit 60 --repeats 12 --load 0.9 --policy fcfs --quiet"
COMPILER = "|lapsbench.compiled.compiler"
COLD = {"PYTHONPROFILEIMPORTTIME": "1", "PYTHONUNBUFFERED": "1"}
"""Python tells what it imports: the compiler, where there is something to compile, and else not."""


def test_of_two_workers_one_compiles(tmp_path):
    cold = COLD | {"NUMBA_CACHE_DIR": str(tmp_path / "cold"), "TMPDIR": str(tmp_path)}
    port = free_port()
    head, worker = (printed(start, {"8786": port}) for start in ("dask scheduler", "dask worker"))
    with started(head, tmp_path, environment(tmp_path), "head"):
        wait_for(lambda: listens(port))
        with started(worker, tmp_path, environment(tmp_path, **cold), "worker"):
            process(f"{LINE} --out there --on dask://127.0.0.1:{port}", tmp_path, timeout=600).fine()
            told = (tmp_path / "worker.log").read_text()
    assert len({worker for worker, _ in replayed(tmp_path)}) == 2
    assert sum(line.replace(" ", "").endswith(COMPILER) for line in told.splitlines()) == 1
    kept = {each.name.partition(".cpython")[0] for each in (tmp_path / "cold" / "lapsbench").iterdir()}
    assert kept >= {"lapsbench.sim.ideal.step.advance", "lapsbench.sim.alone.walk", "lapsbench.policies.fcfs.fcfs"}
    lapsbench(f"{LINE} --out here", tmp_path).fine()
    same(tmp_path / "here", tmp_path / "there")
