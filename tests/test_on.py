"""`--on`: what it refuses, and cells in processes of this machine."""

from __future__ import annotations

import os
import signal
import struct
import sys
from unittest import mock

import pytest
from clusters import BIN, cells, family, free_port, wait_for
from commands import lapsbench, process, running

from lapsbench.cli.running import COMPILING
from lapsbench.machines.on_local import LocalPool
from lapsbench.machines.pool import Lost

RUN = "replay --limit 300 --repeats 3 --load 0.7,0.9"
MINE = """
import math

FACTOR = 2.0

def shortest(job, tokens=10.0):
    return math.floor(job.predicted_tokens / tokens) * FACTOR

def halves(step):
    return step.most_drafts / 2
"""
REFUSED = {
    "another kind": ("--on slurm://a:1", 2, ["--on", "slurm://a:1", "dask://HOST:PORT, ray://HOST:PORT or local:N"]),
    "no kind": ("--on 10.0.0.5:8786", 2, ["no place", "dask://HOST:PORT"]),
    "no port": ("--on dask://10.0.0.5", 2, ["--on dask://10.0.0.5", "HOST:PORT", "dask://10.0.0.5:8786"]),
    "a port that is none": ("--on ray://10.0.0.5:99999", 2, ["HOST:PORT", "ray://10.0.0.5:10001"]),
    "one slash": ("--on dask:/10.0.0.5:8786", 2, ["no place"]),
    "no processes": ("--on local:0", 2, ["--on local:0", "local:2"]),
    "minus one process": ("--on local:-1", 2, ["local:2"]),
    "half a process": ("--on local:0.5", 2, ["local:2"]),
    "with --jobs": ("--on local:2 --jobs 1", 2, ["--on and --jobs", "one of the two"]),
    "vLLM's own scheduler": ("--on local:2 --engine vllm-native", 2, ["vllm-native", "--engine vllm"]),
}


@pytest.mark.parametrize(("flags", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_a_place_that_is_none_is_refused_in_one_line(tmp_path, flags, code, words):
    done = lapsbench(f"{RUN} {flags} --out run", tmp_path)
    assert (done.code, done.out) == (code, "")
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_nobody_there_is_told_before_anything_is_measured(tmp_path, kind):
    if kind == "ray":
        pytest.importorskip("ray", reason="takes ray: pip install 'lapsbench[cluster]'")
    place = f"{kind}://127.0.0.1:{free_port()}"
    done = process(f"{RUN} --on {place} --out run", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert f"--on {place}: nobody answers there" in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("kind", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_extra_is_named(tmp_path, kind, module):
    with mock.patch.dict(sys.modules, {module: None}):
        sys.modules.pop(f"lapsbench.machines.on_{kind}", None)
        done = lapsbench(f"{RUN} --on {kind}://127.0.0.1:1", tmp_path)
    assert done.code == 1
    assert f"takes {module}, which is not installed; try pip install 'lapsbench[cluster]'" in done.err


def test_processes_give_the_bytes_of_one(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    line = f"{RUN} --policy fcfs --policy mine.py:shortest:tokens=3 --policy gittins --policy work-patient"
    line = f"{line} --drafts mine.py:halves"
    one = lapsbench(f"{line} --out one --jobs 1", tmp_path).fine()
    two = process(f"{line} --out two --on local:2", tmp_path).fine()
    assert two.out == one.out
    assert two.err == one.err.replace(f"{COMPILING}\n", "")
    same(tmp_path / "one", tmp_path / "two")


def test_finished_cells_are_not_replayed_again_elsewhere(tmp_path):
    line = f"{RUN} --policy fcfs --policy srpt --out run"
    lapsbench(line, tmp_path).fine()
    again = process(f"{line} --on local:1 --repeats 4", tmp_path).fine()
    assert "resumed: 12 of 16 cells were already in run" in again.err


def test_a_policy_that_fails_there_is_told_as_here(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def mine(job):\n    return (job.predicted_tokens - job.predicted_tokens) / 0.0\n"
    )
    here, there = (process(f"{RUN} --policy mine.py:mine {flags}", tmp_path) for flags in ("", "--on local:1"))
    assert here.code == there.code == 1
    assert there.err == here.err
    assert "returned NaN" in there.err


def test_a_file_whose_neighbour_is_not_there_is_told(tmp_path):
    (tmp_path / "table.txt").write_text("2")
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\nN = float(Path(__file__).with_name('table.txt').read_text())\n"
        "def mine(job):\n    return job.predicted_tokens * N\n"
    )
    lapsbench(f"{RUN} --policy mine.py:mine", tmp_path).fine()
    done = process(f"{RUN} --policy mine.py:mine --on local:1", tmp_path)
    assert done.code == 1
    assert done.err.count("\n") == 1 + done.err.count("note:")
    assert "worker" in done.err
    assert "mine.py: does not import: FileNotFoundError" in done.err


def test_a_killed_process_costs_no_finished_cell(tmp_path):
    line = "replay --limit 300 --repeats 20 --load 0.7,0.9 --policy fcfs --policy srpt"
    lapsbench(f"{line} --out one", tmp_path).fine()
    command = [BIN / "lapsbench", *f"{line} --out run --on local:2".split()]
    with running(command, tmp_path) as replay:
        wait_for(lambda: len(cells(tmp_path / "run")) > 10)
        working = [each for each in family(replay.pid)[1:] if "popen_loky" in " ".join(each.cmdline())]
        os.kill(working[-1].pid, signal.SIGKILL)
        _, err = replay.communicate(timeout=100)
    assert replay.returncode == 0, err
    assert "local:2: cells under way were lost" in err
    same(tmp_path / "one", tmp_path / "run")


def die_answering():
    """In a worker of loky: die with the lock on answers in hand, in the middle of one."""
    frame = sys._getframe()
    while "result_queue" not in frame.f_locals:
        frame = frame.f_back
    answers = frame.f_locals["result_queue"]
    answers._wlock.acquire()
    os.write(answers._writer.fileno(), struct.pack("!i", 1000) + b"the rest never comes")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_while_it_answers_is_noticed(tmp_path):
    pool = LocalPool("local:2", 2)
    answer = pool.submit(die_answering)

    def lost():
        try:
            return not pool.slots()
        except Lost:
            return True

    wait_for(lost, 60)
    with pytest.raises(Lost):
        pool.result(answer)
    assert pool.again()
    assert pool.slots() == 2
    assert pool.result(pool.submit(abs, -3)) == 3
    pool.submit(die_answering)
    wait_for(pool._died, 60)
    pool.close()


def same(one, two):
    for name in ("manifest.json", "requests.parquet", "summary.parquet"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
