"""The public formats and one's own columns: quirks survived, and every row kept or counted."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.traces import open_trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9,396,109\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
BURST_3 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
SERVED = {
    "date": "20260101-000000",
    "request_rate": "inf",
    "input_lens": [10, 20, 30],
    "output_lens": [5, 3, 7],
    "ttfts": [0.1, 0.0, 0.2],
    "itls": [[0.01] * 4, [], [0.01] * 6],
    "start_times": [1000.5, 1000.75, 1001.0],
    "generated_texts": ["a", "", "c"],
    "errors": ["", "Traceback: connection reset", ""],
}


@pytest.fixture
def file(tmp_path):
    def write(content, name="trace.csv"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(tmp_path / name)

    return write


def refused(*args, kind=LapsbenchError, **options):
    with pytest.raises(kind) as caught:
        open_trace(*args, **options)
    assert "; try " in str(caught.value)
    return str(caught.value)


# --- BurstGPT


def test_burstgpt_drops_and_counts_failed_requests(file):
    trace = open_trace(
        file(BURST + "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,0,1087,API log\n118,x,4,6,10,y")
    )
    assert trace.arrival_s.tolist() == [0, 113]
    assert trace.output_tokens.tolist() == [18, 6]
    assert trace.category.tolist() == ["Conversation log", "y"]
    assert trace.notes == ("1 row with no output tokens (failed): dropped",)
    assert (trace.provenance["rows_read"], trace.provenance["rows_dropped"]) == (3, 1)


def test_burstgpt_keeps_failed_requests_on_request(file):
    path = file(BURST + "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,0,1087,API log\n")
    trace = open_trace(path, failed="keep")
    assert trace.output_tokens.tolist() == [18, 1]
    assert trace.notes == ("1 row with no output tokens (failed): kept with 1 output token",)


def test_burstgpt_3_has_its_new_columns_in_the_middle(file):
    trace = open_trace(file(BURST_3 + "19440110.0,1722ac82,43,GPT-4,906,446,1352,Conversation log\n"))
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([906], [446])
    assert trace.client_id.tolist() == ["1722ac82"]


# --- Mooncake, the multimodal trace


def test_mooncake_is_in_milliseconds(file):
    rows = [
        {"timestamp": t, "input_length": 5, "output_length": n, "hash_ids": [0, 1]} for t, n in ((27, 1), (3027, 0))
    ]
    trace = open_trace(file("\n\n".join(map(json.dumps, rows)) + "\n", "m.jsonl"))
    assert trace.arrival_s.tolist() == [0]
    assert trace.notes == (
        "1 blank line: skipped",
        "column 'timestamp' read as milliseconds, as Mooncake's are; --time-unit says otherwise",
        "1 row with no output tokens (failed): dropped",
    )


def test_the_multimodal_trace_has_a_column_more(file):
    trace = open_trace(file("TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-15 00:00:00.1,2,30,4\n"))
    assert (trace.prompt_tokens[0], trace.output_tokens[0]) == (30, 4)


# --- benchmarks of serving engines


@pytest.mark.parametrize("indent", [None, 2])
def test_a_vllm_result_reads_and_its_failed_request_is_counted(file, indent):
    trace = open_trace(file(json.dumps(SERVED, indent=indent), "result.json"))
    assert trace.arrival_s.tolist() == [0, 0.5]
    assert trace.prompt_tokens.tolist() == [10, 30]
    assert trace.output_tokens.tolist() == [5, 7]
    assert trace.notes == ("1 row with no output tokens (failed): dropped",)


def test_a_vllm_result_of_more_than_a_megabyte_on_one_line_reads(file):
    long = {"generated_texts": ["word " * 300_000, "", ""], **SERVED}
    assert len(open_trace(file(json.dumps(long), "result.json"))) == 2


def test_a_result_without_times_or_with_torn_lists_says_so(file):
    without = {key: value for key, value in SERVED.items() if key not in ("start_times", "request_rate")}
    assert "--save-detailed" in refused(file(json.dumps(without), "a.json"))
    assert "3 start_times, 2 input_lens" in refused(file(json.dumps({**SERVED, "input_lens": [1, 2]}), "b.json"))
    assert "holds 2 runs" in refused(file(json.dumps(SERVED) + "\n" + json.dumps(SERVED), "c.jsonl"))
    assert "row 2, column 'start_times'" in refused(
        file(json.dumps({**SERVED, "start_times": [1, "soon", 2]}), "d.json")
    )


@pytest.mark.parametrize(("rate", "span_s"), [(4.0, 500), (float("inf"), 0), ("inf", 0)])
def test_an_sglang_result_without_times_is_sent_again_by_its_rate(file, rate, span_s):
    run = {"request_rate": rate, "input_lens": [9] * 2000, "output_lens": [3] * 2000, "errors": [""] * 2000}
    trace = open_trace(file(json.dumps(run) + "\n", "sglang.jsonl"))
    assert len(trace) == 2000
    assert trace.span_s == pytest.approx(span_s, rel=0.1)
    assert f"drawn anew at request_rate {rate}" in trace.notes[0]


# --- one's own columns


def test_columns_of_any_name_and_unit(file):
    path = file("ts,in,out,who\n1500,10,20,a\n2500,11,0,b\n1000,12,22,a\n")
    trace = open_trace(path, columns="arrival=ts,prompt=in,output=out,client=who", time_unit="ms")
    assert trace.arrival_s.tolist() == [0, 0.5]
    assert trace.client_id.tolist() == ["a", "a"]
    assert trace.notes == (
        "column 'ts' read as milliseconds, as --time-unit says",
        "1 row with no output tokens (failed): dropped",
        "1 row was out of order: sorted",
    )


def test_columns_read_the_same_from_csv_json_and_parquet(file, tmp_path):
    rows = [{"when": 3 * i, "in": 5 + i, "out": 7 + i, "kind": f"k{i}"} for i in range(4)]
    pq.write_table(pa.table({key: [row[key] for row in rows] for key in rows[0]}), tmp_path / "t.parquet")
    csv = "when,in,out,kind\n" + "".join(",".join(map(str, row.values())) + "\n" for row in rows)
    sources = [
        file(csv),
        file("\n".join(map(json.dumps, rows)), "t.jsonl"),
        file(json.dumps(rows, indent=1), "t.json"),
        str(tmp_path / "t.parquet"),
    ]
    for source in sources:
        trace = open_trace(source, columns="arrival=when,prompt=in,output=out,category=kind", time_unit="min")
        assert trace.arrival_s.tolist() == [0, 180, 360, 540]
        assert trace.category.tolist() == ["k0", "k1", "k2", "k3"]


@pytest.mark.parametrize("mark", ["T", " "])
@pytest.mark.parametrize("zone", ["", "Z", "+00:00"])
def test_columns_of_moments_need_no_unit(file, mark, zone):
    path = file(f"at,in,out\n2026-01-02{mark}03:04:05{zone},1,2\n2026-01-02{mark}03:04:06.250{zone},1,2\n")
    assert open_trace(path, columns="arrival=at,prompt=in,output=out").arrival_s.tolist() == [0, 1.25]
    assert "no unit" in refused(path, columns="arrival=at,prompt=in,output=out", time_unit="ms", kind=UsageError)


def test_moments_in_parquet_are_moments(tmp_path):
    moments = pa.array(np.array(["2026-01-02T03:04:05", "2026-01-02T03:04:07"], dtype="datetime64[ms]"))
    pq.write_table(pa.table({"at": moments, "in": [1, 2], "out": [3, 4]}), tmp_path / "t.parquet")
    trace = open_trace(str(tmp_path / "t.parquet"), columns="arrival=at,prompt=in,output=out")
    assert trace.arrival_s.tolist() == [0, 2]


def test_nanoseconds_since_1970_keep_their_digits(file):
    path = file("ts,in,out\n1700000000000000000,1,1\n1700000000500000000,1,1\n")
    trace = open_trace(path, columns="arrival=ts,prompt=in,output=out", time_unit="ns")
    assert trace.arrival_s == pytest.approx([0, 0.5], abs=1e-6)


@pytest.mark.parametrize(
    ("columns", "unit", "reason"),
    [
        ("arrival=ts,prompt=in", None, "says nothing of output"),
        ("arrival=ts,prompt=in,output=out,when=x", None, "unknown key 'when'"),
        ("arrival=ts,arrival=ts,prompt=in,output=out", None, "arrival is there twice"),
        ("ts,in,out", None, "is not KEY=COLUMN"),
        ("arrival=ts,prompt=in,output=out", "days", "unknown unit 'days'"),
    ],
)
def test_columns_and_units_that_mean_nothing_are_usage_errors(file, columns, unit, reason):
    path = file("ts,in,out\n1,1,1\n")
    assert reason in refused(path, columns=columns, time_unit=unit, kind=UsageError)


def test_a_column_the_file_does_not_have_is_named(file):
    text = refused(file("ts,in,out\n1,1,1\n"), columns="arrival=ts,prompt=in,output=answer")
    assert "has no column 'answer'; it has 'ts', 'in', 'out'" in text


# --- packed files


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_packed_files_of_every_container_read(file, tmp_path, packing):
    def pack(data):
        return gzip.compress(data) if packing == "gzip" else pa.Codec("zstd").compress(data, asbytes=True)

    pq.write_table(pa.table({"arrival_s": [0.0], "prompt_tokens": [374], "output_tokens": [44]}), tmp_path / "p")
    parquet = (tmp_path / "p").read_bytes()
    line = b'{"timestamp": 0, "input_length": 374, "output_length": 44}\n'
    for name, content in (("a", AZURE.encode()), ("b", line), ("c", json.dumps(SERVED).encode()), ("d", parquet)):
        trace = open_trace(file(pack(content), name))
        assert trace.prompt_tokens[0] in (374, 10)


def test_packed_files_that_are_cut_short_are_refused(file):
    packed = gzip.compress(AZURE.encode() * 50)
    assert "truncated or damaged" in refused(file(packed[:-6], "cut.csv.gz"))
    assert "compressed (zip)" in refused(file(b"PK\x03\x04" + bytes(50), "x.zip"))
