"""Traces that do not read: the one line names the cause, where it is, and what to try, and trying it helps."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from commands import lapsbench

from lapsbench.traces import open_trace

CASES = Path(__file__).parent / "cases" / "traces"
OWN = "--columns arrival=ts,prompt=in,output=out"
HEADER = "ts,in,out\n"


def refused(line, cwd, code=1):
    done = lapsbench(line, cwd)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1), done
    assert "; try " in done.err
    return done.err


@pytest.mark.parametrize(
    ("name", "why", "arrival_s"),
    [
        ("semicolon.csv", "values stand between semicolons", [0, 1]),
        ("tab.csv", "values stand between tabs", [0, 1]),
        ("comment.csv", "begins with a comment ('# my log')", [0, 1]),
    ],
)
@pytest.mark.parametrize("flags", ["", OWN])
def test_a_file_that_is_almost_csv_names_the_command_that_mends_it(name, why, arrival_s, flags, tmp_path):
    text = refused(f"replay --trace {CASES / name} {flags}", tmp_path)
    assert name in text
    assert why in text
    command = text.partition("; try ")[2].strip().replace("FILE", str(CASES / name))
    mended = subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout
    (tmp_path / "mended.csv").write_bytes(mended)
    assert open_trace(str(tmp_path / "mended.csv")).arrival_s.tolist() == arrival_s


def test_a_header_with_an_odd_name_still_reads(tmp_path):
    (tmp_path / "t.csv").write_text("#ts,in;tokens,out\n0,9,2\n1,8,2\n")
    trace = open_trace(str(tmp_path / "t.csv"), columns="arrival=#ts,prompt=in;tokens,output=out")
    assert trace.prompt_tokens.tolist() == [9, 8]


@pytest.mark.parametrize(
    ("row", "column", "why", "attempt"),
    [
        ('0,"1,200",5', "in", "marks between the thousands", "1200"),
        ("0,1'200'000,5", "in", "marks between the thousands", "1200000"),
        ('"0,5",12,5', "ts", "a comma for a decimal point", "0.5"),
        ("2026/11/27,12,5", "ts", "a date in a form that is not read", "2026-11-27 00:00:00"),
        ("2026/1/7 10:00:00,12,5", "ts", "a date in a form that is not read", "2026-01-07 10:00:00"),
        ("2026-11-27,12,5", "ts", "a date in a form that is not read", "2026-11-27 00:00:00"),
        ("01/02/2026 10:00:00,12,5", "ts", "does not say which is the day", "2026-11-27 10:00:00, the year first"),
        ("27.11.2026,12,5", "ts", "does not say which is the day", "2026-11-27 10:00:00, the year first"),
        ("# restarted,,", "ts", "a comment, not a row", "grep -v '^#' FILE"),
        ("soon,12,5", "ts", "is not a number", "filling in or deleting the row"),
    ],
)
def test_a_value_names_its_cause_its_place_and_how_to_write_it(row, column, why, attempt, tmp_path):
    (tmp_path / "t.csv").write_text(f"{HEADER}{row}\n")
    text = refused(f"traces describe t.csv {OWN}", tmp_path)
    assert text.startswith(f"error: t.csv, row 1, column '{column}': ")
    assert why in text
    assert re.search(rf"; try {re.escape(attempt)}(, without them)?\n$", text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("thousands.csv", ("row 1, column 'prompt_tokens'", "'1,200'", "try 1200")),
        (f"slash_date.csv {OWN}", ("row 1, column 'ts'", "'01/02/2026 10:00:00'", "the year first")),
        ("nan.jsonl", ("row 2, column 'arrival_s'", "'NaN' is not a number")),
    ],
)
def test_the_files_people_have(line, words, tmp_path):
    text = refused(f"traces describe {CASES}/{line}", tmp_path)
    assert all(word in text for word in words), text


def test_what_python_writes_for_no_number_is_found_in_a_list_too(tmp_path):
    row = '{"arrival_s": %s, "prompt_tokens": 9, "output_tokens": 2}'
    (tmp_path / "t.json").write_text(f"[{row % 0},\n{row % 'Infinity'}]")
    assert "row 2, column 'arrival_s': 'Infinity' is infinite" in refused("traces describe t.json", tmp_path)


def test_moments_in_our_own_format_name_the_way_out(tmp_path):
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n2026-11-27 10:00:00,9,2\n")
    assert "is a time, not a number; try --columns" in refused("traces describe t.csv", tmp_path)


# --- lengths


def test_int_max_as_a_length_ends_at_once(tmp_path):
    start = time.monotonic()
    text = refused(f"replay --trace {CASES / 'huge.csv'}", tmp_path)
    assert time.monotonic() - start < 10
    assert "row 1, column 'prompt_tokens': '2000000000' is more than 10,000,000 tokens, which no model takes" in text


def test_the_longest_length_is_the_same_for_what_is_made(tmp_path):
    assert "--prompt" in refused("traces make t.csv --prompt lognormal:median=20000000", tmp_path, code=2)
    lapsbench("traces make t.csv --requests 9 --prompt lognormal:median=9999999,sigma=5", tmp_path).fine()
    assert open_trace(str(tmp_path / "t.csv")).prompt_tokens.max() == 10_000_000


# --- requests that failed


def test_an_empty_output_is_a_request_that_failed(tmp_path):
    done = lapsbench(f"traces describe {CASES / 'empty_out.csv'} {OWN}", tmp_path).fine()
    assert done.err == "1 row with no output tokens (failed): dropped\n"
    kept = open_trace(str(CASES / "empty_out.csv"), columns=OWN.split()[1], failed="keep")
    assert kept.output_tokens.tolist() == [1, 6]


def test_an_empty_prompt_is_still_an_error(tmp_path):
    (tmp_path / "t.csv").write_text(f"{HEADER}0,,5\n")
    assert "row 1, column 'in': the value is missing" in refused(f"traces describe t.csv {OWN}", tmp_path)


def test_a_request_that_failed_before_it_was_timed_does_not_stretch_the_clock():
    path = str(CASES / "vllm_bench_failed_start0.json")
    dropped, kept = open_trace(path), open_trace(path, failed="keep")
    assert dropped.span_s == pytest.approx(30.0754, abs=1e-4)
    assert kept.span_s == dropped.span_s
    assert (len(dropped), len(kept)) == (48, 49)
    assert dropped.notes == ("2 rows with no output tokens (failed): dropped",)
    assert kept.notes == (
        "1 row failed without a start time: dropped",
        "1 row with no output tokens (failed): kept with 1 output token",
    )


@pytest.mark.parametrize("trace", ["chat", CASES / "rel.csv"])
def test_keeping_failed_requests_where_there_are_none_is_refused(trace, tmp_path):
    text = refused(f"replay --trace {trace} --failed keep", tmp_path, code=2)
    assert text.startswith("error: --failed keep: our own format has no failed requests")


# --- files that are made


@pytest.mark.parametrize("command", ["make", "convert chat"])
def test_a_file_that_is_there_is_written_over_only_by_force(command, tmp_path):
    (tmp_path / "t.csv").write_text("precious")
    assert "t.csv: is there already" in refused(f"traces {command} t.csv", tmp_path)
    assert (tmp_path / "t.csv").read_text() == "precious"
    lapsbench(f"traces {command} t.csv --force", tmp_path).fine()
    assert len(open_trace(str(tmp_path / "t.csv"))) == 5000


def test_one_row_has_lengths_but_no_rate(tmp_path):
    line = f"traces make t.csv --like {CASES / 'onerow.csv'}"
    text = refused(line, tmp_path)
    assert "onerow.csv: has a single request" in text
    lapsbench(f"{line} {text.partition('; try ')[2]} --requests 20", tmp_path).fine()
    assert set(open_trace(str(tmp_path / "t.csv")).prompt_tokens) == {12}
