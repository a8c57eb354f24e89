"""Clocks: whatever unit and origin the stamps of a file have, a replay sees the same seconds, or is told why not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import lapsbench

from lapsbench.core import Outcome
from lapsbench.errors import LapsbenchError
from lapsbench.metrics.summary import summarize
from lapsbench.traces import open_trace

CASES = Path(__file__).parent / "cases" / "traces"
OWN = "--columns arrival=ts,prompt=in,output=out"
QUICK = "--policy fcfs --repeats 1"


def described(line, cwd):
    """Return what `traces describe` measures, and its remarks."""
    done = lapsbench(f"traces describe {line} --json -", cwd).fine()
    return json.loads(done.out), done.err


def refused(line, cwd, code=1):
    done = lapsbench(f"traces describe {line}", cwd)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1), done
    return done.err


# --- files with Mooncake's keys, in milliseconds and in seconds


@pytest.mark.parametrize(
    ("name", "span_s", "why"),
    [
        ("bailian_seconds.jsonl", 10, "seconds: it has 'chat_id' and 'parent_chat_id'"),
        ("ragpulse_seconds.jsonl", 98, "seconds: they are quoted"),
    ],
)
def test_seconds_under_mooncakes_keys_are_told_and_the_flag_overrides(name, span_s, why, tmp_path):
    found, said = described(CASES / name, tmp_path)
    assert found["span_s"] == pytest.approx(span_s, abs=1e-9)
    assert why in said
    found, said = described(f"{CASES / name} --time-unit ms", tmp_path)
    assert found["span_s"] == pytest.approx(span_s / 1000, abs=1e-9)
    assert "read as milliseconds, as --time-unit says" in said


@pytest.mark.parametrize(
    ("stamps", "hash_ids", "span_s", "why"),
    [
        ((0, 3000, 6000), [1], 6, "milliseconds, as Mooncake's are"),
        ((0.0, 3000.0, 6000.0), [1], 6, "milliseconds, as Mooncake's are"),
        ((0.5, 3, 6.75), [1], 6.25, "seconds: they have fractions"),
        ((0, 3, 6), {"sys_prompt": [1]}, 6, "seconds: its 'hash_ids' have names"),
    ],
)
@pytest.mark.parametrize("layout", ["lines", "list"])
def test_what_tells_seconds_from_milliseconds(stamps, hash_ids, span_s, why, layout, tmp_path):
    keys = {"input_length": 9, "output_length": 2, "hash_ids": hash_ids}
    rows = [{"timestamp": stamp, **keys} for stamp in stamps]
    text = "\n".join(map(json.dumps, rows)) if layout == "lines" else json.dumps(rows, indent=1)
    (tmp_path / "t.jsonl").write_text(text)
    found, said = described("t.jsonl", tmp_path)
    assert found["span_s"] == span_s
    assert why in said


def test_a_replay_of_seconds_is_not_overloaded_and_says_the_unit(tmp_path):
    done = lapsbench(f"replay --trace {CASES / 'ragpulse_seconds.jsonl'} {QUICK}", tmp_path).fine()
    assert "load 0.01" in done.out
    assert "column 'timestamp' read as seconds" in " ".join(done.out.split())


# --- stamps since 1970


@pytest.mark.parametrize(("unit", "precision_s"), [("ms", 1.001e-3), ("us", 1.001e-6), ("ns", 1.001e-6)])
def test_epochs_read_as_the_same_trace_counted_from_its_start(unit, precision_s, tmp_path):
    path = CASES / f"epoch_{unit}.csv"
    trace = open_trace(str(path), time_unit=unit)
    # rel.csv is rounded to microseconds
    assert trace.arrival_s == pytest.approx(open_trace(str(CASES / "rel.csv")).arrival_s, abs=precision_s)
    assert trace.arrival_s[0] == 0
    first = path.read_text().splitlines()[1].split(",")[0]
    assert (trace.provenance["first_arrival"], trace.provenance["time_unit"]) == (first, unit)


@pytest.mark.parametrize(
    ("line", "unit"),
    [
        ("epoch_ms.csv", "ms"),
        ("epoch_us.csv", "us"),
        ("epoch_ns.csv", "ns"),
        ("native_epoch_ms.csv", "ms"),
        (f"epoch_ms_noflag.csv {OWN}", "ms"),
        (f"epoch_ms_noflag.csv {OWN} --time-unit s", "ms"),
    ],
)
def test_an_epoch_without_its_unit_is_refused_with_the_unit_to_name(line, unit, tmp_path):
    text = refused(f"{CASES}/{line}", tmp_path)
    assert "row 1, column" in text
    assert "since 1970 (202" in text
    assert f"; try --time-unit {unit}, or " in text
    bare = line.partition(" --time-unit")[0]
    assert described(f"{CASES}/{bare} --time-unit {unit}", tmp_path)[0]["span_s"] in (
        1,
        10,
        pytest.approx(3.567, abs=1e-3),
    )


def test_seconds_since_1970_in_a_format_of_milliseconds_are_asked_about(tmp_path):
    row = '{"timestamp": %d, "input_length": 9, "output_length": 2}\n'
    (tmp_path / "t.jsonl").write_text(row % 1759813207 + row % 1759813209)
    assert "try --time-unit s (or ms, if that is right)" in refused("t.jsonl", tmp_path)
    assert described("t.jsonl --time-unit s", tmp_path)[0]["span_s"] == 2
    assert described("t.jsonl --time-unit ms", tmp_path)[0]["span_s"] == 0.002


def test_a_stamp_that_is_no_date_in_any_unit_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n353401262172427,9,2\n353401262172500,9,2\n")
    assert "are 11,198,610 years; try --time-unit ms, us or ns" in refused("t.csv", tmp_path)
    assert described("t.csv --time-unit ns", tmp_path)[0]["span_s"] == 7.3e-8


@pytest.mark.parametrize(
    "stamps", [(1787267980.014429184, 1787267980.014929184), ("1787267980.014429184", "1787267980.014929184")]
)
def test_seconds_since_1970_keep_their_microseconds(stamps, tmp_path):
    rows = "".join(f"{stamp},9,2\n" for stamp in stamps)
    (tmp_path / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    written = 5e-7 if isinstance(stamps[0], float) else 0  # a float in the first place
    assert described("t.csv", tmp_path)[0]["span_s"] == pytest.approx(0.0005, abs=written)


def test_nanoseconds_in_parquet_are_more_than_a_float_holds(tmp_path):
    first = 1787267980014429184
    table = pa.table(
        {"arrival_s": [first, first + 1, first + 1001], "prompt_tokens": [9] * 3, "output_tokens": [2] * 3}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    trace = open_trace(str(tmp_path / "t.parquet"), time_unit="ns")
    assert trace.arrival_s.tolist() == [0, 1e-9, 1.001e-6]
    assert trace.provenance["first_arrival"] == str(first)


def test_a_float_that_has_rounded_its_stamps_is_refused(tmp_path):
    stamps = pa.array(np.array([1787267980, 1787268980], np.float32))
    pq.write_table(
        pa.table({"arrival_s": stamps, "prompt_tokens": [9, 9], "output_tokens": [2, 2]}), tmp_path / "t.parquet"
    )
    assert "column 'arrival_s'" in (text := refused("t.parquet", tmp_path))
    assert "a float holds such stamps 1.3e+02 s apart" in text


def test_a_far_origin_changes_no_latency(tmp_path):
    rows = [(0.0, 40, 30), (0.0001, 50, 60), (0.25, 60, 20), (0.3, 70, 90)]
    for name, origin in (("near", 0), ("far", 1_750_000_000)):
        text = "".join(f"{origin + int(s)}{f'{s % 1:.4f}'[1:]},{p},{n}\n" for s, p, n in rows)
        (tmp_path / f"{name}.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{text}")
        lapsbench(f"replay --trace {name}.csv {QUICK} --out {name}", tmp_path).fine()
    near, far = (pl.read_parquet(tmp_path / name / "requests.parquet") for name in ("near", "far"))
    assert near.equals(far)
    kept = json.loads((tmp_path / "far/manifest.json").read_text())["trace"]["provenance"]
    assert (kept["first_arrival"], kept["time_unit"]) == ("1750000000.0000", "s")


def test_the_origin_is_that_of_the_first_request_kept_and_outlives_a_conversion(tmp_path):
    (tmp_path / "t.csv").write_text("ts,in,out\n1750000000000,9,0\n1750000002500,9,2\n1750000003000,9,2\n")
    lapsbench(f"traces convert t.csv t.parquet {OWN} --time-unit ms", tmp_path).fine()
    trace = open_trace(str(tmp_path / "t.parquet"))
    assert trace.arrival_s.tolist() == [0, 0.5]
    assert (trace.provenance["first_arrival"], trace.provenance["time_unit"]) == ("1750000002500", "ms")
    faster = open_trace(str(tmp_path / "t.parquet"), time_unit="ms")
    assert (faster.arrival_s.tolist(), faster.provenance["first_arrival"]) == ([0, 0.0005], "0.0")


def test_a_stamp_at_zero_among_dates_is_refused(tmp_path):
    rows = f"0,9,2\n{datetime(2026, 1, 2, tzinfo=UTC).timestamp():.0f}000,9,2\n"
    (tmp_path / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    assert "more than a century; try the --time-unit of its arrivals" in refused("t.csv", tmp_path)


# --- the flag


def test_a_known_format_is_read_in_the_unit_one_says(tmp_path):
    (tmp_path / "t.csv").write_text("arrival_ms,prompt_tokens,output_tokens\n0,9,2\n1500,9,2\n")
    assert described("t.csv", tmp_path)[0]["span_s"] == 1.5
    found, said = described("t.csv --time-unit us", tmp_path)
    assert found["span_s"] == 0.0015
    assert "column 'arrival_ms' read as microseconds, as --time-unit says" in said


def test_moments_have_no_unit_in_any_format(tmp_path):
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5,9,2\n")
    assert "holds moments of time, which have no unit" in refused("t.csv --time-unit s", tmp_path, code=2)


def test_python_writes_a_comma_before_the_fraction(tmp_path):
    (tmp_path / "t.csv").write_text('ts,in,out\n"2026-01-01 00:00:00,123",9,2\n"2026-01-01 00:00:10,373",9,2\n')
    assert described(f"t.csv {OWN}", tmp_path)[0]["span_s"] == 10.25
    assert described(f"{CASES / 'comma_frac.csv'} {OWN}", tmp_path)[0]["span_s"] == 10


# --- what looks wrong


def test_a_gap_that_is_most_of_the_trace_is_remarked_and_a_window_heals_it(tmp_path):
    path = CASES / "gap10h_many.csv"
    _, said = described(path, tmp_path)
    assert "nothing arrives for 35,993.1 s from 6.909 s on, 99.96 % of the trace" in said
    done = lapsbench(f"replay --trace {path} --window 0:7 {QUICK}", tmp_path).fine()
    assert "nothing arrives" not in done.out
    assert "arrivals 150 = 150 finished" in done.out


def test_a_pause_that_is_not_most_of_the_trace_is_nothing_to_say(tmp_path):
    stamps = [*range(10), *range(18, 28)]
    rows = "".join(f"{stamp},9,2\n" for stamp in stamps)
    (tmp_path / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    assert described("t.csv", tmp_path)[1] == ""


def test_a_load_above_ten_on_its_own_clock_is_remarked(tmp_path):
    path = CASES / "bailian_seconds.jsonl"
    remark = "times what the engine can serve; try --load 0.9, or --time-unit"
    wrong = lapsbench(f"replay --trace {path} --time-unit us {QUICK}", tmp_path).fine()
    assert remark in " ".join(wrong.out.split())
    for flags in ("", "--time-unit us --load 0.9", "--time-unit us --rate 100000"):
        assert remark not in " ".join(lapsbench(f"replay --trace {path} {flags} {QUICK}", tmp_path).fine().out.split())


def outcome(finished_s, alone_s):
    """Return what becomes of two requests that arrive at 0."""
    zeros, ones = np.zeros(2), np.ones(2, np.int32)
    finished, alone = np.array(finished_s), np.array(alone_s)
    counts = {"rounds": ones, "accepted_tokens": ones, "preemptions": ones, "recomputed_tokens": np.zeros(2, np.int64)}
    run = {"steps": 2, "makespan_s": 9.0, "lookups": 1, "lookups_beyond": 0}
    return Outcome(
        zeros, finished / 2, finished, **counts, status=np.zeros(2, np.uint8), itl_max_s=zeros, alone_s=alone, **run
    )


def boiled(*times):
    return summarize(np.zeros(2), np.array([3, 3], np.int32), outcome(*times), policy="fcfs", load=None, seed=0)


def test_a_request_that_takes_no_time_is_a_defect_and_one_that_takes_less_than_alone_is_none():
    with pytest.raises(LapsbenchError, match=r"fcfs: 1 of 2 requests took no time .* request 1, which takes 2 s alone"):
        boiled([3.0, 0.0], [2.0, 2.0])
    assert boiled([2.0, 0.01], [2.0, 2.0]).metrics["slowdown_mean"] < 1  # prices may fall where they should rise
    assert boiled([2.0 - 1e-12, 1.9], [2.0, 2.0]).metrics["slowdown_mean"] == pytest.approx(0.975)
