"""Bad input: one clear line on stderr, nothing on stdout, the right exit code, and no finished work lost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from commands import SCRIPT, Done, lapsbench, plain_environment, process, running

from lapsbench import resources
from lapsbench.store.run import RunFolder

SHIPPED = resources.shipped("profiles") / "h100-llama3.1-8b-eagle3"
HEADER = "arrival_s,prompt_tokens,output_tokens\n"
ROWS = "".join(f"{i / 10},{50 + i},{20 + i % 7 * 30}\n" for i in range(60))

FILES = {
    # traces
    "good.csv": HEADER + ROWS,
    "empty.csv": "",
    "header.csv": HEADER,
    "no_column.csv": "arrival_s,prompt_tokens\n0,1\n",
    "twice.csv": "arrival_s,prompt_tokens,output_tokens,output_tokens\n0,1,2,3\n",
    "nan.csv": HEADER + "0,1,2\nnan,1,2\n",
    "null.csv": HEADER + "0,1,2\n1,,2\n",
    "negative.csv": HEADER + "0,1,2\n-1,2,2\n",
    "zero.csv": HEADER + "0,1,0\n",
    "fraction.csv": HEADER + "0,1,1.5\n",
    "huge.csv": HEADER + "0,1e12,5\n",
    "words.csv": HEADER + "0,many,5\n",
    "ragged.csv": HEADER + "0,1,2\n0,1,2,3\n",
    "one.csv": HEADER + "0,10,5\n",
    "at_once.csv": HEADER + "3,10,5\n" * 20,
    "garbage.bin": bytes(range(256)) * 4,
    "latin1.csv": (HEADER.strip() + ",client_id\n0,1,2,caf\xe9\n").encode("latin-1"),
    "cut.jsonl": '{"arrival_s":0,"prompt_tokens":1,"output_tokens":2}\n{"arrival_s":0,"pro',
    "packed.csv.gz": b"\x1f\x8b\x08\0\0\0",
    # scenarios
    "syntax.toml": "trace = ",
    "key.toml": 'trce = "chat"\n',
    "number.toml": 'max_batch = "many"\n',
    "list.toml": 'policies = "fcfs"\n',
    "nobody.toml": "policies = []\n",
    "true.toml": "max_batch = true\n",
    "both.toml": "load = 0.5\nrate = 3\n",
    "latin1.toml": "# caf\xe9\n".encode("latin-1"),
    # policies
    "mine.py": "def rule(job, weight=2.0):\n    return job.arrival_s * weight\n",
    "bad_syntax.py": "def rule(job:\n",
    "raises.py": "1 / 0\n",
    "peeks.py": "def rule(job):\n    return float(job.output_tokens)\n",
    "writes.py": "def rule(job):\n    job.emitted_tokens = 3\n    return 1.0\n",
    "nan.py": "def rule(job):\n    return (job.arrival_s - job.arrival_s) / job.emitted_tokens\n",
    "opens.py": 'def rule(job):\n    return open("x")\n',
    "no_default.py": "def rule(job, weight):\n    return weight\n",
    "no_job.py": "def rule(request):\n    return 1.0\n",
    "no_function.py": "rule = 3\n",
    # places
    "a_file": "1",
    "foreign/notes.txt": "mine\n",
    "web_app/manifest.json": '{"name": "not a run"}\n',
}


def cell(column, row, value):
    """Return a change of one cell of a cost table."""

    def change(cost):
        values = cost[column].to_pylist()
        values[row] = value
        field = cost.schema.field(column)
        return cost.set_column(cost.schema.get_field_index(column), field, pa.array(values, field.type))

    return change


def without(component, query_tokens=None):
    """Return a change that leaves a component out, all of it or at one size."""

    def change(cost):
        found = pc.equal(cost["component"], component)
        if query_tokens is not None:
            found = pc.and_(found, pc.equal(cost["query_tokens"], query_tokens))
        return cost.filter(pc.invert(found))

    return change


def tagged(**metadata):
    return lambda cost: cost.replace_schema_metadata(
        {f"lapsbench.{key}".encode(): value for key, value in metadata.items()}
    )


COSTS = {  # profile: what is done to the shipped cost table
    "nan_cost": cell("time_s", 3, float("nan")),
    "negative_cost": cell("time_s", 3, -1.0),
    "null_cost": cell("time_s", 3, None),
    "component": cell("component", 3, "warp"),
    "duplicate": lambda cost: pa.concat_tables([cost, cost.slice(0, 1)]),
    "no_rows": lambda cost: cost.slice(0, 0),
    "no_verify": without("verify"),
    "no_draft": without("draft"),
    "no_plain": without("verify", query_tokens=1),
    "no_time": lambda cost: cost.drop_columns(["time_s"]),
    "words": lambda cost: cost.set_column(4, "time_s", pa.array(["fast"] * len(cost))),
    "two_times": lambda cost: cost.append_column("time_s", cost["time_s"]),
    "version": tagged(schema=b"cost/9"),
    "tag": tagged(schema=b"\xff\xfe"),
    "provenance": tagged(schema=b"cost/1", provenance=b"{cut"),
    "provenance_bytes": tagged(schema=b"cost/1", provenance=b"\xff\xfe"),
}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Return a folder with every bad file there is, and some good ones."""
    room = tmp_path_factory.mktemp("bad")
    for name, content in FILES.items():
        (room / name).parent.mkdir(exist_ok=True)
        (room / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (room / "folder").mkdir()
    (room / "truncated.parquet").write_bytes((resources.shipped("traces") / "chat.parquet").read_bytes()[:5000])
    pq.write_table(pa.table({"a": [1]}), room / "foreign.parquet")
    cost = pq.read_table(SHIPPED / "cost.parquet")
    for name, change in COSTS.items():
        shutil.copytree(SHIPPED, room / name)
        pq.write_table(change(cost), room / name / "cost.parquet")
    for name in ("truncated", "no_acceptance", "no_cost", "bad_acceptance"):
        shutil.copytree(SHIPPED, room / name)
    (room / "truncated/cost.parquet").write_bytes((SHIPPED / "cost.parquet").read_bytes()[:3000])
    (room / "bad_acceptance/acceptance.parquet").write_bytes(b"PAR1 and no more")
    (room / "no_acceptance/acceptance.parquet").unlink()
    (room / "no_cost/cost.parquet").unlink()
    lapsbench(
        "replay --trace good.csv --policy fcfs --repeats 1", room
    ).fine()  # compiles, and would say so beside the line
    return room


OK, ERROR, USAGE, INTERRUPTED = 0, 1, 2, 130

# what the user did, the command line after `replay --trace good.csv` (or whole, if it says so), exit code, words
BAD = [
    # the trace
    ("no such trace", "replay --trace missing.csv", ERROR, "missing.csv", "no such file"),
    ("no such shipped trace", "replay --trace chitchat", USAGE, "--trace", "'chitchat'", "chat or code"),
    ("unset shell variable", "replay --trace ''", USAGE, "--trace", "empty"),
    ("folder as trace", "replay --trace folder", ERROR, "folder", "one file in it"),
    ("empty trace", "replay --trace empty.csv", ERROR, "empty.csv", "is empty"),
    ("header only", "replay --trace header.csv", ERROR, "header.csv", "no requests"),
    ("truncated Parquet", "replay --trace truncated.parquet", ERROR, "truncated.parquet", "damaged", "copying"),
    ("foreign Parquet", "replay --trace foreign.parquet", ERROR, "foreign.parquet", "'arrival_s'", "missing"),
    ("binary garbage", "replay --trace garbage.bin", ERROR, "garbage.bin", "not a text file"),
    ("wrong encoding", "replay --trace latin1.csv", ERROR, "latin1.csv", "line 2", "UTF-8"),
    ("compressed trace cut short", "replay --trace packed.csv.gz", ERROR, "gzip", "truncated"),
    ("cut JSONL", "replay --trace cut.jsonl", ERROR, "cut.jsonl", "row 2"),
    ("missing column", "replay --trace no_column.csv", ERROR, "no_column.csv", "'output_tokens'"),
    ("column twice", "replay --trace twice.csv", ERROR, "twice.csv", "'output_tokens'", "twice"),
    ("NaN arrival", "replay --trace nan.csv", ERROR, "nan.csv", "row 2", "'arrival_s'", "not a number"),
    ("missing value", "replay --trace null.csv", ERROR, "null.csv", "row 2", "'prompt_tokens'", "missing"),
    ("negative time", "replay --trace negative.csv", ERROR, "row 2", "'arrival_s'", "'-1' is negative"),
    ("no output tokens", "replay --trace zero.csv", ERROR, "row 1", "'output_tokens'", "less than 1"),
    ("half a token", "replay --trace fraction.csv", ERROR, "row 1", "'1.5'", "whole number"),
    ("1e12 tokens", "replay --trace huge.csv", ERROR, "row 1", "'prompt_tokens'", "more than 10,000,000"),
    ("words for numbers", "replay --trace words.csv", ERROR, "row 1", "'many'", "not a number"),
    ("too many values", "replay --trace ragged.csv", ERROR, "row 2", "4 values"),
    ("one request, and a load", "replay --trace one.csv --load 0.5", ERROR, "single request", "own clock"),
    ("all at once, and a load", "replay --trace at_once.csv --load 0.5", ERROR, "same time", "own clock"),
    ("all at once, and a rate", "replay --trace at_once.csv --rate 3", ERROR, "same time", "own clock"),
    # the profile
    ("no such profile", "--profile nope", ERROR, "nope", "no such profile", "h100-llama3.1-8b-eagle3"),
    ("file as profile", "--profile a_file", ERROR, "a_file", "folder"),
    ("profile without costs", "--profile no_cost", ERROR, "no_cost/cost.parquet", "no such file"),
    ("truncated profile", "--profile truncated", ERROR, "truncated/cost.parquet", "not a readable Parquet file"),
    ("NaN cost", "--profile nan_cost", ERROR, "nan_cost/cost.parquet", "time_s", "row 4", "nan"),
    ("negative cost", "--profile negative_cost", ERROR, "time_s", "row 4", "-1.0"),
    ("missing cost", "--profile null_cost", ERROR, "time_s", "row 4", "null"),
    ("unknown component", "--profile component", ERROR, "row 4", "warp", "verify"),
    ("grid point twice", "--profile duplicate", ERROR, "cost.parquet", "repeats", "row 1"),
    ("no rows", "--profile no_rows", ERROR, "'verify'"),
    ("no verify costs", "--profile no_verify", ERROR, "no_verify/cost.parquet", "'verify'"),
    ("no time column", "--profile no_time", ERROR, "'time_s'", "missing"),
    ("two time columns", "--profile two_times", ERROR, "'time_s'", "twice"),
    ("words for times", "--profile words", ERROR, "'time_s'", "double"),
    ("newer version", "--profile version", ERROR, "'cost/9'", "'cost/2'"),
    ("damaged schema tag", "--profile tag", ERROR, "tag/cost.parquet", "'cost/2'"),
    ("damaged provenance", "--profile provenance", ERROR, "provenance", "not JSON"),
    ("provenance not text", "--profile provenance_bytes", ERROR, "provenance", "not JSON"),
    ("damaged acceptance", "--profile bad_acceptance", ERROR, "acceptance.parquet", "not a readable Parquet file"),
    ("drafts without costs", "--profile no_draft", ERROR, "no_draft", "'draft'", "--draft-tokens 0"),
    ("drafts without acceptance", "--profile no_acceptance", ERROR, "no acceptance", "--draft-tokens 0"),
    ("plain without costs", "--profile no_plain --draft-tokens 0", ERROR, "query_tokens 1", "--draft-tokens 1"),
    ("k beyond recordings", "--draft-tokens 9", ERROR, "up to 8 draft tokens", "--draft-tokens 8"),
    (
        "calibration without a bank",
        "--profile no_acceptance --draft-tokens 0 --policy laps-sd",
        ERROR,
        "'laps-sd'",
        "--calibration",
    ),
    # the flags
    ("unknown flag", "--polciy fcfs", USAGE, "--polciy", "--policy", "--help"),
    ("unknown command", "reply", USAGE, "'reply'", "--help"),
    ("flag without value", "--policy", USAGE, "'--policy'", "requires an argument"),
    ("two scenarios", "replay a.toml b.toml", USAGE, "b.toml"),
    ("unknown policy", "--policy nope", USAGE, "--policy", "'nope'", "fcfs", "FILE.py:FUNCTION"),
    ("unknown policy, listed", "policies nope", USAGE, "policies:", "'nope'", "fcfs"),
    ("unknown parameter", "--policy trail:quantum=3", USAGE, "'quantum=3'", "c=0.8"),
    ("parameter not a number", "--policy trail:c=fast", USAGE, "c='fast'", "not a number"),
    ("policy twice", "--policy fcfs --policy fcfs", USAGE, "fcfs is given twice"),
    ("policy twice in disguise", "--policy trail --policy trail:c=0.8", USAGE, "trail is given twice"),
    ("unknown predictor", "--predict crystal-ball", USAGE, "--predict", "'crystal-ball'", "oracle"),
    ("negative sigma", "--predict noisy:sigma=-1", USAGE, "--predict", "'-1'", "0 to 10"),
    ("sigma not a number", "--predict noisy:sigma=much", USAGE, "--predict", "'much'"),
    ("no predictions to use", "--predict trace", ERROR, "--predict trace", "predicted_tokens"),
    ("load 0", "--load 0", USAGE, "--load", "0 is not a fraction of capacity"),
    ("negative load", "--load -0.5", USAGE, "--load", "-0.5 is not a fraction"),
    ("load nan", "--load nan", USAGE, "--load", "nan is not a fraction"),
    ("load in words", "--load high", USAGE, "--load", "'high' is not a number"),
    ("load twice", "--load 0.5,0.5", USAGE, "--load", "twice"),
    ("half a range of loads", "--load 0.5:0.9", USAGE, "--load", "FROM:TO:STEP"),
    ("load and rate", "--load 0.7 --rate 3", USAGE, "--load and --rate", "exclude each other"),
    ("infinite rate", "--rate inf", USAGE, "--rate", "not finite"),
    ("rate 0", "--rate 0", USAGE, "--rate", "too small"),
    ("rate in words", "--rate fast", USAGE, "--rate", "valid number"),
    ("no batch", "--max-batch 0", USAGE, "--max-batch", "0 is too small", "1 or more"),
    ("half a place", "--max-batch 1.5", USAGE, "--max-batch", "valid integer"),
    ("negative drafts", "--draft-tokens -1", USAGE, "--draft-tokens", "-1 is too small", "0 or more"),
    ("256 drafts", "--draft-tokens 256", USAGE, "--draft-tokens", "256 is too large", "255"),
    ("negative budget", "--prefill-budget -1", USAGE, "--prefill-budget", "too small"),
    ("negative memory", "--kv-tokens -1", USAGE, "--kv-tokens", "too small"),
    ("unknown preemption", "--on-preempt drop", USAGE, "--on-preempt", "'drop'", "'recompute'"),
    ("limit 0", "--limit 0", USAGE, "--limit", "too small"),
    ("reversed window", "--window 5:2", USAGE, "--window", "start < end"),
    ("window in the future", "--window 500:900", ERROR, "nothing arrives", "spans 5.9 s"),
    ("half a window", "--window 5", USAGE, "--window", "FROM:TO"),
    ("window in words", "--window now:then", USAGE, "--window", "'now'"),
    ("no repeats", "--repeats 0", USAGE, "--repeats", "too small"),
    ("negative seed", "--seed -1", USAGE, "--seed", "too small"),
    ("no jobs", "--jobs 0", USAGE, "--jobs", "1"),
    ("unknown SLO", "--slo fast:3", USAGE, "--slo", "'fast'", "ttft"),
    ("negative SLO", "--slo ttft:-3", USAGE, "--slo", "-3"),
    ("SLO without limit", "--slo ttft", USAGE, "--slo", "milliseconds"),
    ("baseline not replayed", "--policy fcfs --baseline srpt", USAGE, "--baseline", "srpt is not among", "fcfs"),
    ("unknown baseline", "--baseline nope", USAGE, "--baseline", "'nope'"),
    ("no such calibration", "--calibration nope", USAGE, "--calibration", "'nope'"),
    ("learning from the test", "--calibration ./good.csv", USAGE, "--calibration", "is the replayed trace"),
    ("clients without names", "--policy vtc", ERROR, "vtc", "client_id"),
    ("JSON into nowhere", "--json nowhere/x.json", ERROR, "--json nowhere/x.json", "No such file or directory"),
    ("JSON into a folder", "--json folder", ERROR, "--json folder", "Is a directory"),
    ("JSON to no name", "--json ''", USAGE, "--json", "empty"),
    ("run into a file", "--out a_file", ERROR, "a_file", "Not a directory"),
    ("run among other files", "--out foreign", ERROR, "foreign", "no run", "empty --out"),
    ("run into a web app", "--out web_app", ERROR, "web_app", "manifest.json", "empty --out"),
    ("KV memory for nobody", "--engine ideal --kv-tokens 3 -q", ERROR, "--kv-tokens 3", "finishes no request", "73"),
    # the scenario file
    ("no such scenario", "replay missing.toml", ERROR, "missing.toml", "No such file"),
    ("folder as scenario", "replay folder", ERROR, "folder", "Is a directory"),
    ("broken TOML", "replay syntax.toml", ERROR, "syntax.toml", "not a readable TOML file"),
    ("TOML not UTF-8", "replay latin1.toml", ERROR, "latin1.toml", "UTF-8"),
    ("unknown key", "replay key.toml", USAGE, "key.toml", "'trce'", "try trace"),
    ("wrong type", "replay number.toml", USAGE, "number.toml, key max_batch", "'many' is not a whole number"),
    ("text for a list", "replay list.toml", USAGE, "list.toml, key policies", "'fcfs' is not a list", "brackets"),
    ("no policies", "replay nobody.toml", USAGE, "nobody.toml", "no policy"),
    ("true for a number", "replay true.toml", USAGE, "true.toml, key max_batch", "true"),
    ("load and rate in a file", "replay both.toml", USAGE, "both.toml", "exclude each other"),
    # one's own policy
    ("no such file", "--policy nowhere.py:rule", USAGE, "'nowhere.py'", "no such file"),
    ("no such function", "--policy mine.py:role", USAGE, "mine.py", "'role'", "rule"),
    ("broken Python", "--policy bad_syntax.py:rule", ERROR, "bad_syntax.py", "SyntaxError", "line 1"),
    ("file that raises", "--policy raises.py:rule", ERROR, "raises.py", "ZeroDivisionError"),
    ("not a function", "--policy no_function.py:rule", ERROR, "no_function.py:rule", "int"),
    ("no job to look at", "--policy no_job.py:rule", ERROR, "'rule'", "no argument named job"),
    ("no default", "--policy no_default.py:rule", ERROR, "'weight'", "no numeric default"),
    ("unknown parameter of one's own", "--policy mine.py:rule:height=1", USAGE, "'height=1'", "weight=2"),
    ("peeking", "--policy peeks.py:rule", ERROR, "peeks.py", "job.output_tokens", "line 2"),
    ("writing", "--policy writes.py:rule", ERROR, "writes.py", "writes job.emitted_tokens"),
    ("not compilable", "--policy opens.py:rule", ERROR, "opens.py", "does not compile", "open"),
    ("NaN for a rank", "--policy nan.py:rule", ERROR, "'rule'", "NaN", "request 0"),
]


def whole(line):
    """Return the command line: most of the table tells only what follows a good trace."""
    return line if line.split(" ")[0] in ("replay", "policies", "reply") else f"replay --trace good.csv {line}"


def check(done, code, words):
    assert "Traceback" not in done.err
    assert done.code == code, done.err
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.endswith("\n")
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err


@pytest.mark.parametrize(("line", "code", "words"), [(row[1], row[2], row[3:]) for row in BAD], ids=[r[0] for r in BAD])
def test_one_clear_line(room, line, code, words):
    check(lapsbench(whole(line), room), code, words)


def test_the_table_is_long_and_tells_each_story_once():
    assert len({row[0] for row in BAD}) == len(BAD) >= 30
    assert len({row[1] for row in BAD}) == len(BAD)


def test_a_process_of_its_own_says_the_same(room):
    line = "replay --trace nan.csv"
    assert process(line, room) == lapsbench(line, room)


def test_workers_say_the_same(room):
    line = "replay --trace good.csv --policy nan.py:rule --repeats 4"
    assert lapsbench(f"{line} --jobs 2", room) == lapsbench(line, room)


def test_a_command_that_fails_leaves_an_old_json_alone(room, tmp_path):
    kept = tmp_path / "kept.json"
    kept.write_text("precious")
    check(lapsbench(f"replay --trace nan.csv --json {kept}", room), ERROR, ["nan.csv"])
    assert kept.read_text() == "precious"
    check(lapsbench(f"replay --trace nan.csv --json {tmp_path / 'new.json'}", room), ERROR, ["nan.csv"])
    assert not (tmp_path / "new.json").exists()


def test_a_command_that_fails_leaves_other_peoples_files_alone(room):
    lapsbench(whole("--out foreign"), room)
    lapsbench(whole("--out web_app"), room)
    assert [path.name for path in (room / "foreign").iterdir()] == ["notes.txt"]
    assert (room / "web_app/manifest.json").read_text() == FILES["web_app/manifest.json"]


def test_a_folder_whose_first_command_failed_can_be_used(room, tmp_path):
    out = tmp_path / "run"
    check(lapsbench(whole(f"--policy nan.py:rule --out {out}"), room), ERROR, ["NaN"])
    lapsbench(whole(f"--policy fcfs --repeats 1 --out {out}"), room).fine()
    assert len(pl.read_parquet(out / "requests.parquet")) == 60


# set-ups that are odd, or hopeless, and end all the same ---------------------------------------------------------


def cells(line, room):
    """Return what a command says and its cells, each with every request accounted for."""
    done = lapsbench(f"{line} --json cells.json", room).fine()
    found = json.loads((room / "cells.json").read_text())["cells"]
    assert all(each["arrivals"] == each["finished"] + each["rejected"] + each["unfinished"] for each in found)
    return done, found


def test_a_request_too_large_for_memory_is_rejected_and_counted(room):
    done, (cell,) = cells("replay --trace good.csv --engine ideal --policy fcfs --repeats 1 --kv-tokens 200", room)
    assert 0 < cell["rejected"] < 60
    assert cell["finished"] == 60 - cell["rejected"]
    assert f"rejected     {cell['rejected']} requests that can never fit --kv-tokens 200" in done.out


def test_a_livelock_ends_and_says_why(room):
    line = "replay --trace at_once.csv --policy las --policy fcfs --repeats 1 --max-batch 2"
    done, (las, fcfs) = cells(f"{line} --engine ideal --kv-tokens 300 --on-preempt recompute", room)
    assert las["unfinished"] == 20
    assert las["stopped"]
    assert (fcfs["finished"], fcfs["stopped"]) == (20, "")
    text = " ".join(done.out.split())
    assert "las left 20 of 20 requests unfinished (stopped: jobs kept displacing each other" in text
    assert "try --on-preempt keep" in text


@pytest.mark.parametrize(("trace", "requests"), [("one.csv", 1), ("at_once.csv", 20)])
def test_a_trace_without_gaps_keeps_its_own_clock(room, trace, requests):
    done, found = cells(f"replay --trace {trace} --repeats 1", room)
    assert {cell["finished"] for cell in found} == {requests}
    assert "all at once" in done.out


# a disk that is full, a reader that leaves, a Ctrl-C -------------------------------------------------------------

SHORT = "replay --limit 50 --repeats 1 --policy fcfs --policy srpt"
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full to write to")


@needs_full
def test_stdout_on_a_full_disk(tmp_path):
    with FULL.open("wb") as full:
        check(process(f"{SHORT} --quiet", tmp_path, stdout=full), ERROR, ["cannot write", "No space left on device"])


@needs_full
def test_json_on_a_full_disk_costs_only_the_json(tmp_path):
    done = lapsbench(f"{SHORT} --quiet --json /dev/full", tmp_path)
    assert done.code == ERROR
    assert done.err.splitlines() == [done.err.strip()]
    assert "--json /dev/full: cannot write: No space left on device" in done.err
    assert "fcfs" in done.out


RUN = "replay --engine ideal --limit 1000 --repeats 4 --policy fcfs"
SMALL_DISK = "mount -t tmpfs -o size=150k tmpfs {room}"


def may_mount(room):
    """Whether we may have a small disk, in a name space of our own."""
    mount = ["unshare", "-rm", "sh", "-c", SMALL_DISK.format(room=room)]
    return shutil.which("unshare") and subprocess.run(mount, capture_output=True, check=False).returncode == 0


def test_a_full_disk_costs_no_finished_cell(tmp_path):
    room, kept = tmp_path / "small", tmp_path / "kept"
    room.mkdir()
    if not may_mount(room):
        pytest.skip("needs `unshare -rm` to mount a small disk; the next test does without")
    inside = (
        f"{SMALL_DISK.format(room=room)} && {SCRIPT} {RUN} --out {room}/run; code=$?; cp -r {room} {kept}; exit $code"
    )
    check(shell(["unshare", "-rm", "sh", "-c", inside]), ERROR, ["cells/", "No space left", "more room on the disk"])
    count = len(list((kept / "run/cells").glob("*.parquet")))
    assert 0 < count < 4
    assert f"resumed: {count} of 4 cells" in lapsbench(f"{RUN} --out run", kept).fine().err


def test_no_room_for_the_end_of_a_run_costs_no_finished_cell(tmp_path):
    whole_run = lapsbench(f"{RUN} --out whole", tmp_path).fine()  # which also leaves nothing to compile
    size = (tmp_path / "whole/requests.parquet").stat().st_size
    check(
        shell(["sh", "-c", f"ulimit -f {size // 2 // 512} && cd {tmp_path} && {SCRIPT} {RUN} --out run"]),
        ERROR,
        ["run/requests.parquet", "cannot write", "File too large"],
    )
    assert len(list((tmp_path / "run/cells").glob("*.parquet"))) == 4
    resumed = lapsbench(f"{RUN} --out run", tmp_path).fine()
    assert "resumed: 4 of 4 cells" in resumed.err
    assert resumed.out == whole_run.out
    assert same_files(tmp_path / "run", tmp_path / "whole")


def shell(command):
    done = subprocess.run(command, capture_output=True, check=False, text=True, env=plain_environment(), timeout=120)
    return Done(done.returncode, done.stdout, done.stderr)


def same_files(one, other):
    """Whether two runs hold the same bytes."""
    return all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in ("requests.parquet", "summary.parquet")
    )


LONG = "replay --engine ideal --repeats 12 --policy fcfs --policy las"
HEARING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from lapsbench.cli import main
main()
"""
"""Hear Ctrl-C even where the tests run in the background, which makes a shell tell its children not to."""


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_keeps_finished_cells_and_the_same_command_goes_on(tmp_path, jobs):
    line = f"{LONG} --jobs {jobs} --out run"
    command = [sys.executable, "-c", HEARING, *line.split()]
    with running(command, tmp_path) as replay:
        wait_for_cells(tmp_path / "run/cells", 2)
        replay.send_signal(signal.SIGINT)
        out, err = replay.communicate(timeout=60)
    check(Done(replay.returncode, out, err), INTERRUPTED, ["interrupted", "--out"])
    kept = len(list((tmp_path / "run/cells").glob("*.parquet")))
    assert 2 <= kept < 24
    assert not (tmp_path / "run/requests.parquet").exists()

    resumed = lapsbench(line, tmp_path).fine()
    assert f"resumed: {kept} of 24 cells were already in run" in resumed.err
    uninterrupted = lapsbench(f"{LONG} --out whole", tmp_path).fine()
    assert resumed.out == uninterrupted.out
    assert same_files(tmp_path / "run", tmp_path / "whole")
    assert not (tmp_path / "run/cells").exists()


def wait_for_cells(folder, count):
    deadline = time.monotonic() + 100
    while len(list(folder.glob("*.parquet"))) < count:
        assert time.monotonic() < deadline, "no cells appeared"
        time.sleep(0.005)


DAMAGES = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "not Parquet": lambda path: path.write_text("hello"),
    "another table": lambda path: pq.write_table(pa.table({"a": [1]}), path),
    "rows missing": lambda path: pq.write_table(pq.read_table(path).slice(0, 10), path),
    "a bit flipped": lambda path: path.write_bytes(flipped(path.read_bytes(), 2000)),
}


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cell_is_run_again(tmp_path, damage):
    uninterrupted = lapsbench(f"{RUN} --out whole", tmp_path).fine()
    check(interrupted_after(3, f"{RUN} --out run", tmp_path), INTERRUPTED, ["interrupted"])
    first, *others = sorted((tmp_path / "run/cells").iterdir())
    assert len(others) == 2
    damage(first)
    resumed = lapsbench(f"{RUN} --out run", tmp_path).fine()
    assert "resumed: 2 of 4 cells" in resumed.err
    assert resumed.out == uninterrupted.out
    assert same_files(tmp_path / "run", tmp_path / "whole")


def interrupted_after(cells, line, cwd):
    """Run a command line in this process, and press Ctrl-C once so many cells are kept."""
    keep, kept = RunFolder.keep, []

    def counting(*arguments):
        keep(*arguments)
        kept.append(1)
        if len(kept) == cells:
            raise KeyboardInterrupt

    with mock.patch.object(RunFolder, "keep", counting):
        return lapsbench(line, cwd)


def test_a_damaged_run_is_run_again(tmp_path):
    whole_run = lapsbench(f"{RUN} --out run", tmp_path).fine()
    target = tmp_path / "run/requests.parquet"
    before = target.read_bytes()
    target.write_bytes(before[:-100])
    again = lapsbench(f"{RUN} --out run", tmp_path).fine()
    assert again.out == whole_run.out
    assert target.read_bytes() == before


@pytest.mark.parametrize("more", ["", "--json -"])
def test_a_reader_that_leaves_gets_no_traceback(tmp_path, more):
    line = f"set -o pipefail; {SCRIPT} {SHORT} --quiet {more} | head -c 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=False, text=True, timeout=120)
    assert len(done.stdout) == 1
    assert done.stderr == ""


def test_a_closed_stdout_is_no_traceback(tmp_path):
    assert shell(["sh", "-c", f"{SCRIPT} policies >&-"]) == Done(0, "", "")


def test_a_name_that_the_terminal_cannot_show_is_no_traceback(room, tmp_path):
    shutil.copy(room / "good.csv", tmp_path / "\N{LATIN SMALL LETTER E WITH ACUTE}t.csv")
    line = f"{SCRIPT} replay --trace *.csv --policy fcfs --repeats 1 --quiet"
    done = shell(["sh", "-c", f"cd {tmp_path} && PYTHONIOENCODING=ascii {line}"])
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("\\xe9t on ")
