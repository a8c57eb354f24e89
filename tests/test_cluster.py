"""A sweep of 400 cells, and a tuning, on real clusters of two workers, started as docs/cluster.md has it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

import polars as pl
import pytest
from clusters import (
    KINDS,
    MINE,
    PRINTED,
    cells,
    cluster,
    environment,
    family,
    free_port,
    listens,
    printed,
    replayed,
    started,
    wait_for,
    written,
)
from commands import lapsbench, process, running
from test_bad_input import HEARING
from test_on import same

PACKAGE = Path(__file__).parents[1] / "lapsbench"
TUNING = printed("lapsbench tune", {}).removeprefix("lapsbench ")
SWEEP = PRINTED[2].removeprefix("lapsbench ").partition(" --out")[0] + " --quiet"
"""What the docs have replayed, 400 cells."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep as one process replays it."""
    room = tmp_path_factory.mktemp("whole")
    (room / "mine.py").write_text(MINE)
    lapsbench(f"{SWEEP} --out run --jobs 1", room).fine()
    return room / "run"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The docs' tuning in one process: its files, and what it printed."""
    room = tmp_path_factory.mktemp("tuned")
    (room / "mine.py").write_text(MINE)
    done = lapsbench(f"{TUNING.replace('--on dask://127.0.0.1:8786 ', '')} --jobs 1", room).fine()
    return written(room / "tuned"), done.out


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_cluster_gives_the_bytes_of_one_process_though_a_worker_is_killed(tmp_path, whole, tuned, kind):
    (tmp_path / "mine.py").write_text(MINE)
    with cluster(kind, tmp_path) as (place, docs):
        process(docs.removeprefix("lapsbench "), tmp_path).fine()
        same(whole, tmp_path / "sweep")
        assert sorted(cell for _, cell in told(tmp_path)) == list(range(400))

        done = process(f"{TUNING.replace('dask://127.0.0.1:8786', place)} -q", tmp_path).fine()
        assert (written(tmp_path / "tuned"), done.out, done.err) == (*tuned, "")
        trials = [trial for _, trial in told(tmp_path)]
        assert len(trials) == len(set(trials))

        with replaying(tmp_path, f"--out again --on {place}", 60) as replay:
            came = arrived(tmp_path)
            os.kill(replayed(tmp_path)[-1][0], signal.SIGKILL)
            _, err = replay.communicate(timeout=100)
        assert replay.returncode == 0, err
        assert err == ""
        same(whole, tmp_path / "again")
        counted = [cell for _, cell in replayed(tmp_path)]
        assert {cell: counted.count(cell) for cell in came if counted.count(cell) != 1} == {}
        assert len(counted) <= 402  # what a dead worker had not handed over


def told(room):
    """Return what two workers replayed, and forget it."""
    found = replayed(room)
    (room / "replayed").unlink()
    assert len({process for process, _ in found}) == 2
    return found


@pytest.mark.parametrize("kind", [KINDS["dask"]])
def test_a_scheduler_that_restarts_costs_no_finished_cell(tmp_path, whole, kind):
    (tmp_path / "mine.py").write_text(MINE)
    env, port = environment(tmp_path), free_port()
    head, worker = (printed(start, {"8786": port}) for start in ("dask scheduler", "dask worker"))
    with contextlib.ExitStack() as there:
        first = there.enter_context(started(head, tmp_path, env, "head"))
        there.enter_context(started(worker, tmp_path, env, "worker"))
        with replaying(tmp_path, f"--out run --on dask://127.0.0.1:{port}", 60) as replay:
            came = arrived(tmp_path, "run")
            for each in family(first.pid):
                each.kill()
            there.enter_context(started(head, tmp_path, env, "head again"))
            wait_for(lambda: listens(port))
            there.enter_context(started(worker, tmp_path, env, "worker again"))
            _, err = replay.communicate(timeout=100)
    assert replay.returncode == 0, err
    same(whole, tmp_path / "run")
    counted = [cell for _, cell in replayed(tmp_path)]
    assert {cell: counted.count(cell) for cell in came if counted.count(cell) != 1} == {}


@pytest.mark.parametrize("kind", [KINDS["dask"]])
def test_ctrl_c_keeps_finished_cells_and_this_machine_goes_on(tmp_path, whole, kind):
    (tmp_path / "mine.py").write_text(MINE)
    with cluster(kind, tmp_path) as (place, _), replaying(tmp_path, f"--out run --on {place}", 20) as replay:
        replay.send_signal(signal.SIGINT)
        _, err = replay.communicate(timeout=60)
    assert replay.returncode == 130
    assert err == "error: interrupted; with --out, finished cells are kept and the same command goes on\n"
    assert len(cells(tmp_path / "run")) >= 20
    lapsbench(f"{SWEEP} --out run", tmp_path).fine()
    same(whole, tmp_path / "run")


def another(package):
    (package / "tuning/bench.py").write_text(f"{(package / 'tuning/bench.py').read_text()}\nANOTHER = 1\n")


def older(package):
    shutil.rmtree(package / "machines")


ANOTHER = another, ["has lapsbench 0.", "and here it is 0.", "try installing the same there"]
OLDER = older, ["has another lapsbench, or none", "try pip install lapsbench=="]


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [pytest.param("dask", *ANOTHER, marks=KINDS["dask"].marks), pytest.param("ray", *OLDER, marks=KINDS["ray"].marks)],
)
def test_a_worker_with_another_lapsbench_is_refused_in_one_line(tmp_path, kind, change, words):
    shutil.copytree(PACKAGE, tmp_path / "site/lapsbench", ignore=shutil.ignore_patterns("__pycache__"))
    change(tmp_path / "site/lapsbench")
    with cluster(kind, tmp_path, alone=kind == "ray") as (place, _):  # Ray's head works, too
        done = process(f"replay --limit 100 --quiet --on {place}", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert all(word in done.err for word in words), done.err


@contextlib.contextmanager
def replaying(room, flags, count):
    """Start the sweep, and come back when so many cells are on disk."""
    command = [sys.executable, "-c", HEARING, *f"{SWEEP} {flags}".split()]
    with running(command, room) as started:
        folder = room / flags.split()[1]
        wait_for(lambda: len(cells(folder)) >= count or started.poll() is not None)
        yield started


def arrived(room, name="again"):
    """Return the numbers of the cells that are on disk."""
    loads, policies = (0.6, 0.7, 0.8, 0.9), ("fcfs", "srpt", "shortest", "srpt-work")
    found = []
    for path in (room / name / "cells").glob("*.parquet"):
        with contextlib.suppress(OSError):  # being written
            policy, load, seed = pl.read_parquet(path, columns=["policy", "load", "seed"]).row(0)
            found.append((seed * 4 + loads.index(load)) * 4 + policies.index(policy))
    assert found
    return found
