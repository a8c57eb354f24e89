"""A file that is written appears whole or not at all: on a disk that is full, over what was there, through a link."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest
from commands import SCRIPT, lapsbench, plain_environment

RUN = "replay --smoke --limit 200 --repeats 1 --policy fcfs --policy srpt"
LINEAR = "profiles from-linear --target 1e-3,1e-5,1e-8 --draft 1e-4,1e-6,1e-9 --overhead 1e-4"
WRITING = {
    "page": ("report run --html out/page.html", "out/page.html"),
    "pictures": ("report run --markdown out/run.md", "out/run-choice.svg"),
    "json": (f"{RUN} --quiet --json out/run.json", "out/run.json"),
    "trace, csv": ("traces make out/t.csv --quiet", "out/t.csv"),
    "trace, jsonl": ("traces make out/t.jsonl --quiet", "out/t.jsonl"),
    "trace, parquet": ("traces convert chat out/t.parquet --quiet", "out/t.parquet"),
    "profile": (f"{LINEAR} --acceptance synthetic:mean=2.5 --out out/P", "out/P/"),
}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    lapsbench(f"{RUN} --out run", folder).fine()
    return folder


def without_room(line, cwd):
    """Run a command line where no file may grow beyond a kilobyte, as on a disk that is full."""
    limited = f"ulimit -f 1; exec {SCRIPT} {line}"
    return subprocess.run(
        ["sh", "-c", limited],
        cwd=cwd,
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(("line", "where"), WRITING.values(), ids=WRITING)
def test_what_does_not_fit_leaves_no_half_file(room, tmp_path, line, where):
    (tmp_path / "run").symlink_to(room / "run")
    (tmp_path / "out").mkdir()
    done = without_room(line, tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert f"{where}" in done.stderr
    assert "cannot write: File too large; try another place, or more room on the disk" in done.stderr
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("line", "where"), [WRITING["json"], WRITING["page"], WRITING["trace, csv"]])
def test_what_does_not_fit_leaves_what_was_there(room, tmp_path, line, where):
    (tmp_path / "run").symlink_to(room / "run")
    (tmp_path / "out").mkdir()
    (tmp_path / where).write_text("of yesterday")
    assert without_room(line, tmp_path).returncode == 1
    assert (tmp_path / where).read_text() == "of yesterday"
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path):
    kept, link = tmp_path / "kept.json", tmp_path / "link.json"
    kept.write_text("of yesterday")
    kept.chmod(0o640)
    link.symlink_to(kept)
    lapsbench(f"{RUN} --quiet --json link.json", tmp_path).fine()
    assert link.is_symlink()
    assert kept.read_text().startswith("{")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    lapsbench(f"{RUN} --quiet --json new.json", tmp_path).fine()
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new.json").stat().st_mode) == 0o666 & ~mask


def test_a_pipe_and_a_stream_are_written_to_as_they_are(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    line = f"{SCRIPT} {RUN} --quiet --json pipe >/dev/null & cat pipe; wait"
    ran = {"cwd": tmp_path, "env": plain_environment(), "capture_output": True, "text": True, "timeout": 120}
    assert subprocess.run(["sh", "-c", line], check=True, **ran).stdout.startswith("{")
    line = f"{SCRIPT} {RUN} --quiet --json /dev/stderr >/dev/null 2>both"
    subprocess.run(["sh", "-c", line], check=True, **ran)
    assert (tmp_path / "both").read_text().startswith("{")
