"""One folder, two commands: the second says who is there, nothing finished is lost, the dead hold nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from unittest import mock

import pyarrow.parquet as pq
import pytest
from commands import SCRIPT, lapsbench, plain_environment

from lapsbench.store.lock import FolderLock

SMALL = "replay --smoke --engine ideal --limit 100 --repeats 1 --policy fcfs --policy srpt"
LONG = "replay --engine ideal --repeats 40 --policy fcfs --policy las --quiet"
LINEAR = "--target 1e-3,1e-5,1e-8 --draft 1e-4,1e-6,1e-9 --overhead 1e-4"
RUN_FILES = ["manifest.json", "requests.parquet", "summary.parquet"]


def started(line, cwd):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([SCRIPT, *line.split()], cwd=cwd, env=plain_environment(), **pipes)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def wait_until(true):
    deadline = time.monotonic() + 100
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


@pytest.fixture
def busy(tmp_path):
    """A run folder, and the command that is writing it until the test ends."""
    running = started(f"{LONG} --out run", tmp_path)
    wait_until(lambda: len(list((tmp_path / "run/cells").glob("*.parquet"))) > 1)
    os.kill(running.pid, signal.SIGSTOP)
    yield running
    running.kill()
    running.communicate()


def test_the_second_command_names_the_first_and_touches_nothing(tmp_path, busy):
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    done = lapsbench(f"{SMALL} --out run", tmp_path)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert f"run: is being written by process {busy.pid} on " in done.err
    assert f"lapsbench {LONG} --out run; try again when it is done, or another --out" in done.err
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("reading", ["report run", "report run --html page.html", "compare run run"])
def test_a_run_that_is_being_written_is_told_from_one_that_was_given_up(tmp_path, busy, reading):
    done = lapsbench(reading, tmp_path)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert f"run: the run is being written by process {busy.pid} on " in done.err
    assert not (tmp_path / "page.html").exists()


def test_a_killed_command_holds_nothing(tmp_path, busy):
    kept = len(list((tmp_path / "run/cells").glob("*.parquet")))
    busy.kill()
    busy.wait()
    assert (tmp_path / "run/.lock.json").exists()  # it could not tidy up
    half = tmp_path / "run/cells/half.parquet.1.lapsbench-part"
    half.write_text("half a cell")
    unfinished = lapsbench("report run", tmp_path)
    assert "the run is not finished" in unfinished.err
    done = lapsbench(LONG.replace("--quiet", "--out run"), tmp_path).fine()
    assert f"resumed: {kept} of 80 cells" in done.err
    assert names(tmp_path / "run") == RUN_FILES
    lapsbench("report run", tmp_path).fine()


def test_two_at_once_leave_one_good_run(tmp_path):
    for _ in range(2):
        both = [started(f"{SMALL} --load {load} --out run", tmp_path) for load in (0.7, 0.9)]
        ends = [(*command.communicate(), command.returncode) for command in both]
        for _, err, code in ends:
            assert code == 0 or (code == 1 and "run: is being written by process" in err), err
            assert "Traceback" not in err
        assert 0 in [code for *_, code in ends]
        assert names(tmp_path / "run") == RUN_FILES
        shown = lapsbench("report run", tmp_path).fine().out
        assert shown in [out for out, *_ in ends]


def test_a_command_that_fails_lets_go_of_its_folder(tmp_path):
    twice = f"{SMALL} --policy srpt --out run"
    assert lapsbench(twice, tmp_path).code == 2
    assert names(tmp_path / "run") == ["cells"]
    lapsbench(f"{SMALL} --out run", tmp_path).fine()
    assert names(tmp_path / "run") == RUN_FILES


def test_a_word_that_cannot_be_read_is_no_traceback(tmp_path):
    (tmp_path / "run").mkdir()
    lock = FolderLock(tmp_path / "run")
    (tmp_path / "run/.lock.json").write_text("[1")
    done = lapsbench(f"{SMALL} --out run", tmp_path)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "is being written by another command" in done.err
    lock.release()


def test_a_reader_that_looks_does_not_stop_a_writer(tmp_path):
    lapsbench(f"{SMALL} --out run", tmp_path).fine()
    lock = FolderLock(tmp_path / "run")
    threading.Timer(0.2, lock.release).start()  # a reader holds it for less than a thousandth of that
    lapsbench(f"{SMALL} --out run", tmp_path).fine()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_costs_a_remark(tmp_path, number):
    with mock.patch.object(fcntl, "flock", side_effect=OSError(number, os.strerror(number))):
        done = lapsbench(f"{SMALL} --out run", tmp_path).fine()
        lapsbench("report run", tmp_path).fine()
    assert "run: this file system has no locks" in done.err
    assert names(tmp_path / "run") == RUN_FILES


def test_a_report_reads_one_run_while_the_next_replaces_it(tmp_path):
    """The folder is replaced between two cells; what is read is the run that was there when it began."""
    before = lapsbench(f"{SMALL} --out run", tmp_path).fine().out
    lapsbench(f"{SMALL} --load 0.5 --out next", tmp_path).fine()
    read, calls = pq.ParquetFile.read_row_group, []

    def replaced(self, *arguments, **options):
        table = read(self, *arguments, **options)
        if not calls:
            (tmp_path / "next/requests.parquet").replace(tmp_path / "run/requests.parquet")
        calls.append(1)
        return table

    with mock.patch.object(pq.ParquetFile, "read_row_group", replaced):
        assert lapsbench("report run", tmp_path).fine().out == before


def test_the_folder_of_a_profile_is_locked_too(tmp_path):
    (tmp_path / "P").mkdir()
    lock = FolderLock(tmp_path / "P")
    for line in (
        f"profiles from-linear {LINEAR} --out P",
        "profile --target arch:llama-3.2-1b --draft self:layers=0-3 --costs-only --device cpu --out P",
    ):
        done = lapsbench(line, tmp_path)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert f"P: is being written by process {os.getpid()} on " in done.err
    lock.release()
    lapsbench(f"profiles from-linear {LINEAR} --out P", tmp_path).fine()
    assert names(tmp_path / "P") == ["cost.parquet"]


def test_who_holds_a_folder_is_told_by_process_host_time_and_command(tmp_path):
    lock = FolderLock(tmp_path)
    assert list(json.loads((tmp_path / ".lock.json").read_text())) == ["pid", "host", "since", "command"]
    lock.release()
    assert names(tmp_path) == []
