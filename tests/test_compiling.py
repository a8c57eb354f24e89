"""Workers of one machine that start with nothing compiled: one compiles, and the others load what it compiled."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from clusters import environment, free_port, listens, printed, replayed, started, wait_for
from commands import lapsbench, process
from test_on import same

pytest.importorskip("distributed", reason="takes Dask: pip install 'lapsbench[cluster]'")

LINE = "replay --engine ideal --limit 60 --repeats 12 --load 0.9 --policy fcfs --quiet"
TOLD = re.compile(r"\[cache\] data (saved to|loaded from) '[^']*/([^/']+\.nbc)'")
COLD = {"NUMBA_DEBUG_CACHE": "1", "PYTHONUNBUFFERED": "1"}
"""Numba tells what it compiled and what it found, as it does so."""


def test_of_two_workers_one_compiles(tmp_path):
    cold = COLD | {"NUMBA_CACHE_DIR": str(tmp_path / "cold"), "TMPDIR": str(tmp_path)}
    port = free_port()
    head, worker = (printed(start, {"8786": port}) for start in ("dask scheduler", "dask worker"))
    with started(head, tmp_path, environment(tmp_path), "head"):
        wait_for(lambda: listens(port))
        with started(worker, tmp_path, environment(tmp_path, **cold), "worker"):
            process(f"{LINE} --out there --on dask://127.0.0.1:{port}", tmp_path, timeout=600).fine()
            told = Counter(TOLD.findall((tmp_path / "worker.log").read_text()))
    assert len({worker for worker, _ in replayed(tmp_path)}) == 2
    saved, loaded = (
        {name: count for (what, name), count in told.items() if what == did} for did in ("saved to", "loaded from")
    )
    (kernel,) = (name for name in saved if name.startswith("step.advance-"))
    assert set(saved.values()) == {1}, saved
    assert loaded[kernel] == 1
    lapsbench(f"{LINE} --out here", tmp_path).fine()
    same(tmp_path / "here", tmp_path / "there")
