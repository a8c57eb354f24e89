"""Step logs of a served engine: a table of what was served, a trace of the arrivals, one line for a bad file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from commands import lapsbench

LOG = Path(__file__).parent / "cases" / "steps.jsonl"
LINES = LOG.read_text().splitlines()


def test_a_report_counts_what_was_served(tmp_path):
    done = lapsbench(f"report {LOG}", tmp_path).fine()
    heading, _, names, values = done.out.splitlines()
    assert heading.endswith(
        "vllm 0.32.0: srpt, recompute, max batch 2, draft tokens 1, batched tokens 64, kv tokens 640"
    )
    told = dict(zip(names.split(), values.split(), strict=False))
    assert told["requests"] == "5"
    assert [told[name] for name in ("finished", "aborted", "rejected")] == ["2", "1", "1"]
    # TTFT 1 s and 2.5 s, JCT 6.5 s and 2.5 s; three tokens in 5.5 s after the first
    numbers = values.split()[5:]
    assert numbers == ["1.75", "2.485", "4.5", "6.46", "1833.0", "5", "1.4", "20.0", "1"]


def test_logs_stand_one_below_the_other(tmp_path):
    (tmp_path / "other.jsonl").write_text(LOG.read_text())
    done = lapsbench(f"report {LOG} other.jsonl", tmp_path).fine()
    assert [line.split()[:2] for line in done.out.splitlines()[-2:]] == [["steps.jsonl", "5"], ["other.jsonl", "5"]]


def test_a_trace_of_its_arrivals(tmp_path):
    done = lapsbench(f"traces convert {LOG} out.csv", tmp_path).fine()
    rows = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
    assert rows[0] == ["arrival_s", "prompt_tokens", "output_tokens", "predicted_tokens"]
    assert rows[1:] == [
        ["0.0", "64", "4", "4.0"],
        ["0.5", "70", "1", "2.0"],
        ["1.5", "9", "1", "1.0"],
        ["6.0", "12", "1", "7.0"],
    ]
    assert "1 request aborted: with what was emitted by then" in done.err
    assert "1 request still there when the log ended" in done.err
    assert "1 row with no output tokens (failed): dropped" in done.err


def test_a_replay_reads_it(tmp_path):
    done = lapsbench(f"replay --trace {LOG} --profile cpu-smollm2-135m-ngram --policy fcfs", tmp_path).fine()
    assert "fcfs" in done.out


def test_the_line_that_was_being_written_is_passed_over(tmp_path):
    (tmp_path / "cut.jsonl").write_text("\n".join(LINES)[:-30])
    done = lapsbench("report cut.jsonl", tmp_path).fine()
    assert f"cut.jsonl: line {len(LINES)} is cut off: passed over" in done.err
    assert done.out.splitlines()[-1].split()[10] == "4"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines: ["[]", *lines[1:]], "is no step log"),
        (lambda lines: [lines[0].replace("steps/1", "steps/9"), *lines[1:]], "is of version 'lapsbench.steps/9'"),
        (lambda lines: [lines[0].replace('"policy":"srpt",', ""), *lines[1:]], "line 1: has no 'policy'"),
        (lambda lines: [*lines[:2], lines[2][:-9], *lines[3:]], "line 3: is not JSON"),
        (lambda lines: [*lines[:1], *lines[2:]], "line 2: is of request 0, which has not arrived"),
        (lambda lines: [*lines, lines[1]], "is of request 0, and the next is 5"),
        (lambda lines: [*lines, lines[-3]], "has request 0 leave once more"),
        (lambda lines: [*lines, lines[2].replace(":64,", ":-64,")], "has -64 for 'tokens'"),
        (lambda lines: [*lines, lines[2].replace('"end_s":11.0', '"end_s":NaN')], "has nan for 'end_s'"),
        (lambda lines: [*lines, lines[2].replace('"end_s":11.0', '"end_s":9')], "ends at 9.0, before it starts"),
        (lambda lines: [*lines, lines[2].replace("false", "0")], "has 0 for 'preempted'"),
        (lambda lines: [*lines, '{"request": 4, "status": "lost", "at_s": 1}'], "says 'lost', which is none of"),
        (lambda lines: [*lines, "{}"], "is neither an arrival, nor a departure, nor a step"),
    ],
)
def test_a_damaged_log_is_one_line(tmp_path, damage, said):
    (tmp_path / "log.jsonl").write_text("\n".join(damage(LINES)) + "\n")
    done = lapsbench("report log.jsonl", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: log.jsonl")
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_log_and_a_run_folder_are_not_reported_together(tmp_path):
    done = lapsbench(f"report {LOG} some-run", tmp_path)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "some-run: is no file" in done.err


def test_a_page_is_for_run_folders(tmp_path):
    done = lapsbench(f"report {LOG} --html page.html", tmp_path)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert not (tmp_path / "page.html").exists()


def test_vllms_own_scheduler_takes_vllm(tmp_path):
    done = lapsbench("replay --engine vllm-native --limit 5", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "error: --engine vllm-native: replays on vLLM's own scheduler, and vLLM is not installed here; "
        "try an environment with vLLM in it (docs/vllm.md), or --engine vllm\n"
    )
