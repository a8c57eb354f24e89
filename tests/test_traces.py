"""Files in, Trace out: every format, every bad row, windows and rates, and the generated traces."""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapsbench import resources
from lapsbench.core import Trace
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.schema import TAG
from lapsbench.traces import open_trace, scale_to_rate
from lapsbench.traces.figures import figures
from lapsbench.traces.recipes import CHAT, CODE, RECIPES, SHIPPED_REQUESTS, SHIPPED_SEED, write_shipped
from lapsbench.traces.save import save_trace
from lapsbench.traces.synthetic import generate

NATIVE = "arrival_s,prompt_tokens,output_tokens\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
THREE = NATIVE + "0.5,10,20\n1.25,11,21\n4,12,22\n"
MOST = 10_000_000


@pytest.fixture
def shared(public):
    return lambda name: str(public(f"traces/{name}"))


@pytest.fixture
def file(tmp_path):
    def write(content, name="trace.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def parquet(folder, **columns):
    path = folder / "trace.parquet"
    pq.write_table(pa.table(columns), path)
    return str(path)


def refused(source, **options):
    with pytest.raises(LapsbenchError) as caught:
        open_trace(source, **options)
    text = str(caught.value)
    assert "; try " in text
    assert "\n" not in text
    return text


def holds(trace):
    """Say what every Trace promises to the rest of the program."""
    assert len(trace) == len(trace.prompt_tokens) == len(trace.output_tokens) > 0
    assert (trace.arrival_s.dtype, trace.prompt_tokens.dtype, trace.output_tokens.dtype) == ("f8", "i4", "i4")
    assert np.isfinite(trace.arrival_s).all()
    assert trace.arrival_s[0] >= 0
    assert (np.diff(trace.arrival_s) >= 0).all()
    assert (trace.prompt_tokens >= 1).all()
    assert (trace.output_tokens >= 1).all()
    for column in (trace.arrival_s, trace.prompt_tokens, trace.output_tokens):
        assert column.flags.writeable  # numba compiles read-only arrays as another type
        assert column.flags.c_contiguous
    for column in (trace.category, trace.client_id, trace.prompt_id):
        assert column is None or all(isinstance(value, str) for value in column)
    return True


# --- the public traces, as they lie


@pytest.mark.parametrize(
    ("name", "rows", "first", "last"),
    [
        ("AzureLLMInferenceTrace_conv.csv", 19_366, (374, 44), (197, 183)),
        ("AzureLLMInferenceTrace_code.csv", 8_819, (4808, 10), (549, 173)),
        ("azure_llm_code_v3_1024.csv", 1_024, (1911, 8), (236, 17)),
    ],
)
def test_public_traces_read_as_they_lie(name, rows, first, last, shared):
    trace = open_trace(shared(name))
    assert holds(trace)
    assert len(trace) == rows
    assert trace.notes == ()
    assert trace.name == Path(name).stem
    assert trace.arrival_s[0] == 0
    assert (trace.prompt_tokens[0], trace.output_tokens[0]) == first
    assert (trace.prompt_tokens[-1], trace.output_tokens[-1]) == last


def test_azure_2023_keeps_seven_digits_and_the_span(shared):
    trace = open_trace(shared("AzureLLMInferenceTrace_conv.csv"))
    assert trace.arrival_s[1] == pytest.approx(50.995169 - 46.680590, abs=1e-9)
    assert trace.span_s == pytest.approx(3501.721937, abs=1e-6)


def test_the_slice_in_milliseconds_reads_in_seconds(shared):
    trace = open_trace(shared("azure_llm_code_v3_1024.csv"))
    assert trace.arrival_s[1] == pytest.approx(0.233880)
    assert trace.arrival_s[-1] == pytest.approx(350.813259)


def test_mooncake_reads_as_it_lies_ties_and_all(shared):
    trace = open_trace(shared("mooncake_conversation_trace.jsonl"))
    assert holds(trace)
    assert len(trace) == 12_031
    assert (trace.prompt_tokens[0], trace.output_tokens[0]) == (6758, 500)
    assert int((np.diff(trace.arrival_s) == 0).sum()) == 10_851
    assert trace.notes == (
        "column 'timestamp' read as milliseconds, as Mooncake's are; --time-unit says otherwise",
        "10851 rows arrive with the one before: in the order of the file",
    )


def test_a_format_without_a_reader_is_refused_by_its_columns(file):
    text = refused(file('{"when": 0, "input_length": 3}\n', "x.jsonl"))
    assert "'input_length'" in text
    assert "--columns" in text


# --- formats


def test_azure_2024_differs_from_2023_by_its_zone(file):
    rows = "2024-05-12 08:47:44.022580+00:00,10,5\n2024-05-12 08:47:45+00:00,11,6\n2024-05-12 10:47:46.5+02:00,12,7\n"
    trace = open_trace(file(AZURE + rows))
    assert trace.arrival_s == pytest.approx([0, 0.977420, 2.477420])
    assert trace.provenance["format"] == "azure"


def test_azure_times_of_two_kinds_do_not_mix(file):
    text = refused(file(AZURE + "2023-11-16 18:15:46.6805900,1,1\n2024-05-12 08:47:44.022580+00:00,1,1"))
    assert "row 2, column 'TIMESTAMP'" in text


@pytest.mark.parametrize("moment", ["9999-11-16 18:17:03", "1500-01-01 00:00:00", "2023-02-30 00:00:00", "18:17", ""])
def test_azure_times_that_are_none_are_named(file, moment):
    assert "row 2, column 'TIMESTAMP'" in refused(file(f"{AZURE}2023-11-16 18:15:46,1,1\n{moment},1,1"))


def test_csv_jsonl_and_parquet_of_one_trace_read_the_same(file, tmp_path):
    columns = {
        "arrival_s": [0.0, 0.30000000000000004, 7.0],
        "prompt_tokens": [1, MOST, 3],
        "output_tokens": [4, 5, 6],
        "category": ["code", "", "naïve, quoted"],
        "client_id": ["a", "b", "a"],
        "prompt_id": ["p1", "p2", "p3"],
        "predicted_tokens": [4.5, 0.0, 6.0],
        "priority": [-1, 0, 2],
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    csv = ",".join(columns) + "\n" + "".join(",".join(f'"{value}"' for value in row.values()) + "\n" for row in rows)
    traces = [
        open_trace(file(csv)),
        open_trace(file("\n".join(json.dumps(row) for row in rows), "trace.jsonl")),
        open_trace(parquet(tmp_path, **columns)),
    ]
    for trace in traces:
        assert holds(trace)
        assert {name: getattr(trace, name).tolist() for name in columns} == columns


def test_formats_are_told_by_content_not_by_name(file, tmp_path):
    save_trace(open_trace(file(THREE)), tmp_path / "parquet.csv")
    assert len(open_trace(str(tmp_path / "parquet.csv"))) == 3
    assert len(open_trace(file(THREE, "trace.parquet"))) == 3
    assert len(open_trace(file('{"arrival_s": 0, "prompt_tokens": 1, "output_tokens": 1}', "no-suffix"))) == 1


def test_other_columns_and_their_order_do_not_matter(file):
    trace = open_trace(file("note,output_tokens,note,arrival_s,prompt_tokens\nx,2,y,0,1\n"))
    assert (trace.prompt_tokens[0], trace.output_tokens[0]) == (1, 2)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_byte_order_marks_and_blanks_around_values_are_survived(file, ends, mark):
    trace = open_trace(
        file(mark + "arrival_s, prompt_tokens ,output_tokens\n 0.5 , 10,1e1\n1,2.0,3".replace("\n", ends))
    )
    assert trace.prompt_tokens.tolist() == [10, 2]
    assert trace.output_tokens.tolist() == [10, 3]


def test_jsonl_rows_may_bring_keys_the_first_lacks(file):
    rows = '{"arrival_s": 0, "prompt_tokens": 1, "output_tokens": 2}\n\n'
    rows += '{"client_id": 7, "output_tokens": 2, "prompt_tokens": 1, "arrival_s": 1, "more": [1, {"a": 2}]}\n'
    assert open_trace(file(rows)).client_id.tolist() == ["", "7"]


def test_a_saved_trace_opens_as_it_was(tmp_path):
    trace = replace(generate(CHAT, 50, 0), predicted_tokens=np.arange(50.0), priority=np.arange(50, dtype=np.int32))
    save_trace(trace, tmp_path / "chat.parquet")
    again = open_trace(str(tmp_path / "chat.parquet"))
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "client_id", "predicted_tokens", "priority"):
        assert getattr(again, name).tolist() == getattr(trace, name).tolist()
    assert again.provenance["seed"] == 0


# --- rows out of order, dropped, cut


def test_rows_out_of_order_are_sorted_stably_and_counted(file):
    trace = open_trace(file(NATIVE + "5,1,1\n3,2,1\n5,3,1\n3,4,1\n9,5,1\n"))
    assert trace.arrival_s.tolist() == [0, 0, 2, 2, 6]
    assert trace.prompt_tokens.tolist() == [2, 4, 1, 3, 5]
    assert trace.notes == (
        "2 rows were out of order: sorted",
        "2 rows arrive with the one before: in the order of the file",
    )


def test_equal_arrivals_are_in_order_and_counted(file):
    trace = open_trace(file(NATIVE + "1,1,1\n1,2,1\n1,3,1\n"))
    assert trace.prompt_tokens.tolist() == [1, 2, 3]
    assert trace.notes == ("2 rows arrive with the one before: in the order of the file",)


def test_azure_rows_without_tokens_are_dropped_counted_and_do_not_set_the_clock(file):
    rows = [f"2023-11-16 18:15:{40 + i}.0000000,{i % 4},{i % 3}" for i in range(12)]
    trace = open_trace(file(AZURE + "\r\n".join(rows)))
    kept = [i for i in range(12) if i % 4 and i % 3]
    assert trace.prompt_tokens.tolist() == [i % 4 for i in kept]
    assert trace.arrival_s.tolist() == [i - kept[0] for i in kept]
    assert trace.notes == (
        "3 rows with no prompt tokens: dropped",
        "3 rows with no output tokens (failed): dropped",
    )
    assert len(kept) == 6
    assert trace.provenance["rows_read"] == 12


def test_nothing_left_after_dropping_is_an_error_that_says_so(file):
    text = refused(file("arrival_ms,prompt_tokens,output_tokens\n0,1,0\n"))
    assert "1 row with no output tokens (failed): dropped" in text


def test_blank_lines_are_skipped_and_counted(file):
    trace = open_trace(file(NATIVE + "0,1,1\n\n1,2,2\n\n"))
    assert len(trace) == 2
    assert "blank line" in trace.notes[0]
    assert "row 2, column 'output_tokens'" in refused(file(NATIVE + "0,1,1\n\n1,2,\n"))


def test_every_row_is_kept_or_counted(file):
    rng = np.random.default_rng(0)
    rows = [f"{rng.integers(100)},{rng.integers(3)},{rng.integers(3)}" for _ in range(200)]
    trace = open_trace(file("arrival_ms,prompt_tokens,output_tokens\n" + "\n".join(rows)), window=(0, 0.05), limit=30)
    counted = Counter()
    for note in trace.notes:
        if "dropped" in note:
            counted["dropped"] += int(note.split()[0])
        if note.startswith("window"):
            kept, _, of = note.split(": ")[1].split()[:3]
            counted["window"] = int(of) - int(kept)
        if note.startswith("limit"):
            counted["limit"] = int(note.split(" of ")[1].split()[0]) - 30
    assert min(counted.values()) > 0
    assert len(trace) + counted.total() == len(rows)


def test_a_window_is_half_open_counts_from_the_first_arrival_and_starts_at_zero(file):
    path = file(NATIVE + "".join(f"{i + 100},{i + 1},1\n" for i in range(10)))
    trace = open_trace(path, window=(2, 5))
    assert trace.arrival_s.tolist() == [0, 1, 2]
    assert trace.prompt_tokens.tolist() == [3, 4, 5]
    assert trace.notes == ("window from 2 s to 5 s: 3 of 10 requests kept",)
    assert len(open_trace(path, window=(0, float("inf")))) == 10


def test_the_limit_comes_after_the_window(file):
    path = file(NATIVE + "".join(f"{i},{i + 1},1\n" for i in range(10)))
    assert open_trace(path, window=(4, 9), limit=2).prompt_tokens.tolist() == [5, 6]
    assert open_trace(path, limit=99).notes == ()


def test_windows_and_limits_keep_the_optional_columns_in_step():
    whole, part = open_trace("chat"), open_trace("chat", window=(10, 60), limit=40)
    start = int(np.searchsorted(whole.arrival_s, 10))
    assert part.client_id.tolist() == whole.client_id[start : start + 40].tolist()
    assert holds(part)


@pytest.mark.parametrize("window", [(5, 5), (6, 5), (-1, 5), (float("nan"), 5), (0, float("nan"))])
def test_a_window_that_is_no_stretch_of_time_is_refused(file, window):
    with pytest.raises(UsageError, match="no stretch of time"):
        open_trace(file(THREE), window=window)


def test_an_empty_window_says_how_long_the_trace_is(file):
    assert "spans 3.5 s" in refused(file(THREE), window=(10, 20))


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(limit):
    with pytest.raises(UsageError, match="--limit"):
        open_trace("chat", limit=limit)


# --- bad input


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("-0.5,1,1", "column 'arrival_s': '-0.5' is negative"),
        ("nan,1,1", "column 'arrival_s': 'nan' is not a number"),
        ("inf,1,1", "column 'arrival_s': 'inf' is infinite"),
        ("1e400,1,1", "column 'arrival_s'"),
        (",1,1", "column 'arrival_s': the value is missing"),
        ("soon,1,1", "column 'arrival_s': 'soon' is not a number"),
        ("1,0,1", "column 'prompt_tokens': '0' is less than 1"),
        ("1,1,0", "column 'output_tokens': '0' is less than 1"),
        ("1,-7,1", "column 'prompt_tokens': '-7' is less than 1"),
        ("1,1,2.5", "column 'output_tokens': '2.5' is not a whole number"),
        ("1,2147483648,1", "column 'prompt_tokens': '2147483648' is more than 10,000,000 tokens"),
        ("1,1,nan", "column 'output_tokens': 'nan' is not a number"),
        ("1,1", "column 'output_tokens': the value is missing"),
        ("1,1,1,1", "has 4 values, the header names 3"),
    ],
)
def test_a_bad_row_is_named_by_file_row_column_and_value(file, cell, reason):
    path = file(f"{NATIVE}0,1,1\n{cell}\n9,1,1\n")
    text = refused(path)
    assert text.startswith(f"{path}, row 2")
    assert reason in text


def test_bad_rows_in_parquet_and_jsonl_are_named_alike(file, tmp_path):
    path = parquet(tmp_path, arrival_s=[0.0, 1.0], prompt_tokens=[1, None], output_tokens=[1, 1])
    assert "row 2, column 'prompt_tokens': the value is missing" in refused(path)
    path = parquet(tmp_path, arrival_s=[0.0, 1.0], prompt_tokens=[1, 2**31], output_tokens=[1, 1])
    assert "row 2, column 'prompt_tokens': 2147483648 is more than" in refused(path)
    good = '{"arrival_s": 0, "prompt_tokens": 1, "output_tokens": 1}\n'
    assert "row 2, column 'output_tokens': the value is missing" in refused(
        file(good + good.replace(": 1}", ": null}"))
    )
    assert "row 2, column 'prompt_tokens': 'true'" in refused(file(good + good.replace(": 1,", ": true,")))
    assert "row 2: is not a JSON object" in refused(file(good + good[:30]))
    assert "row 3: is not a JSON object" in refused(file(good + "\n" + good + "[1]\n"))


def test_how_many_more_rows_are_bad_is_told(file):
    assert "row 1, column 'prompt_tokens': '0' is less than 1 (and 2 more rows)" in refused(
        file(NATIVE + "0,0,1\n1,0,1\n2,1,1\n3,0,1\n")
    )


def test_negative_tokens_are_an_error_in_azure_files_too(file):
    assert "row 1, column 'ContextTokens': '-1' is less than 0" in refused(file(AZURE + "2023-11-16 18:15:46,-1,1"))


def test_a_bad_prediction_is_named(file):
    text = refused(file("arrival_s,prompt_tokens,output_tokens,predicted_tokens\n0,1,1,5\n1,1,1,nan\n"))
    assert "row 2, column 'predicted_tokens'" in text


@pytest.mark.parametrize(
    ("cell", "said"),
    [("high", "'high' is not a number"), ("0.5", "'0.5' is not a whole"), ("9e9", "'9e9' is beyond 1,073,741,824")],
)
def test_a_bad_priority_is_named(file, cell, said):
    text = refused(file(f"arrival_s,prompt_tokens,output_tokens,priority\n0,1,1,\n1,1,1,{cell}\n"))
    assert f"row 2, column 'priority': {said}" in text


def test_a_missing_priority_is_0_and_its_column_may_have_another_name(file):
    path = file("at,in,out,urgent\n0,1,1,\n1,1,1,7\n")
    trace = open_trace(path, columns="arrival=at,prompt=in,output=out,priority=urgent")
    assert trace.priority.tolist() == [0, 7]


def test_a_missing_column_is_named_with_those_there_are(file, tmp_path):
    text = refused(file("arrival_s,prompt_tokens,out\n0,1,1\n"))
    assert "has no column 'output_tokens'; it has 'arrival_s', 'prompt_tokens', 'out'" in text
    assert "column 'output_tokens' is missing" in refused(parquet(tmp_path, arrival_s=[0.0], prompt_tokens=[1]))
    assert "no known trace format" in refused(file("0.5,10,20\n1,2,3\n"))


def test_a_column_that_is_there_twice_is_refused_where_it_matters(file, tmp_path):
    assert "column 'prompt_tokens': the column is there twice" in refused(
        file("arrival_s,prompt_tokens,prompt_tokens,output_tokens\n0,1,1,1\n")
    )
    assert "there twice" in refused(file('{"arrival_s": 0, "prompt_tokens": 1, "output_tokens": 1, "arrival_s": 1}'))
    column = pa.array([1])
    names = ["arrival_s", "prompt_tokens", "output_tokens", "output_tokens"]
    pq.write_table(pa.Table.from_arrays([column] * 4, names=names), tmp_path / "twice.parquet")
    assert "there twice" in refused(str(tmp_path / "twice.parquet"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (NATIVE.encode(), "holds no requests"),
        (AZURE.encode(), "holds no requests"),
        (b"PAR1", "truncated or damaged"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is not a text file"),
        (b"\x1f\x8b\x08\0", "is gzip, but truncated or damaged"),
        (THREE.encode("utf-16"), "is not"),
        (b"arrival_s,pr\xe9mpt\n", "is not UTF-8"),
        (NATIVE.encode() + b"0,1,1\n1,\xff,1\n", "line 3: is not UTF-8"),
        (NATIVE.encode() + b'0,1,1\n1,"1,1\n2,1,1\n', "closing every quote"),
        (b"[\n{}\n]", "no known trace format"),
        (b"{", "row 1: is not a JSON object"),
        (b"[" * 100_000, "row 1: is not a JSON object"),
        (b'{"a":' * 100_000, "row 1: is not a JSON object"),
        (b"x" * (1 << 20), "is not a text file"),
    ],
)
def test_bytes_that_are_no_trace_say_what_they_are(file, content, reason):
    path = file(content)
    text = refused(path)
    assert text.startswith(path)
    assert reason in text


def test_an_empty_parquet_file_of_ours_holds_no_requests(tmp_path):
    ints = pa.array([], pa.int32())
    assert "holds no requests" in refused(parquet(tmp_path, arrival_s=ints, prompt_tokens=ints, output_tokens=ints))


def test_truncated_and_foreign_parquet_are_refused(file, tmp_path):
    whole = (resources.shipped("traces") / "chat.parquet").read_bytes()
    assert "truncated or damaged" in refused(file(whole[:-100]))
    assert "truncated or damaged" in refused(file(whole[:100]))
    table = pa.table({"policy": ["fcfs"]}).replace_schema_metadata({TAG: b"requests/1"})
    pq.write_table(table, tmp_path / "requests.parquet")
    assert "holds 'requests/1', not 'trace/1'" in refused(str(tmp_path / "requests.parquet"))
    assert "column 'arrival_s'" in refused(parquet(tmp_path, arrival_s=[[1]], prompt_tokens=[1], output_tokens=[1]))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"no shipped trace is called 'chatt'.*try chat or code, a name of"):
        open_trace("chatt")
    with pytest.raises(UsageError, match="chat or code"):
        open_trace("")


@pytest.mark.parametrize("name", ["x\0y", "x" * 5000, "no/such/trace.csv", "trace.csv\n"])
def test_paths_that_lead_nowhere_are_errors(name):
    refused(name)


def test_a_folder_and_a_device_are_no_traces(tmp_path):
    assert "is a folder" in refused(str(tmp_path))
    assert "is not a regular file" in refused("/dev/null")


def test_a_file_that_may_not_be_read_says_so(file, monkeypatch):
    path = file(THREE)

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)  # chmod would not stop root, as which containers run
    assert "no permission to read it; try chmod +r" in refused(path)


def _seeds():
    with tempfile.TemporaryDirectory() as folder:
        save_trace(generate(CHAT, 8, 0), Path(folder) / "seed.parquet")
        ours = (Path(folder) / "seed.parquet").read_bytes()
    rows = [(f"{i}.5", i + 5, i + 9, f"c{i % 3}") for i in range(6)]
    csv = "arrival_s,prompt_tokens,output_tokens,client_id\n" + "".join(f"{a},{p},{o},{c}\n" for a, p, o, c in rows)
    jsonl = "".join(
        f'{{"arrival_s": {a}, "prompt_tokens": {p}, "output_tokens": {o}, "client_id": "{c}"}}\n' for a, p, o, c in rows
    )
    azure_2023 = AZURE.replace("\n", "\r\n") + "\r\n".join(f"2023-11-16 18:15:4{i}.6805900,{i + 1},7" for i in range(6))
    azure_2024 = AZURE + "\n".join(f"2024-05-12 08:47:4{i}.022580+00:00,{i + 1},7" for i in range(6))
    in_ms = "request_id,arrival_ms,output_tokens,prompt_tokens\n" + "".join(f"a,{i}.5,{i + 1},3\n" for i in range(6))
    return [ours, *(text.encode() for text in (csv, jsonl, azure_2023, azure_2024, in_ms))]


SPLICES = [b'"', b",", b"\n", b"\r", b"\0", b"{", b"nan", b"1e400", b"-", b"\xff", b"9" * 40, b"null", b"\\ud800", b"["]
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),  # where, as a share of the file
        st.sampled_from(["set", "insert", "delete", "cut"]),
        st.one_of(st.binary(min_size=1, max_size=1), st.sampled_from(SPLICES)),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(seed=st.sampled_from(_seeds()), edits=EDITS)
def test_any_bytes_give_a_valid_trace_or_one_clear_error(seed, edits):
    content = bytearray(seed)
    for share, kind, splice in edits:
        at = int(share * len(content))
        if kind == "cut":
            del content[at:]
        elif kind == "delete":
            del content[at : at + 5]
        else:
            content[at : at + (len(splice) if kind == "set" else 0)] = splice
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace"
        path.write_bytes(content)
        try:
            trace = open_trace(str(path))
        except LapsbenchError as error:
            assert str(path) in str(error)  # noqa: PT017 either end is fine
        else:
            assert holds(trace)


# --- rate


@pytest.mark.parametrize("rate", [0.01, 1.0, 7.3, 1e6])
def test_scaling_meets_the_rate_and_keeps_the_pattern(rate):
    trace = open_trace("code", window=(100, 2000))
    trace = replace(trace, arrival_s=trace.arrival_s + 1000)
    scaled = scale_to_rate(trace, rate)
    assert scaled.rate_rps == pytest.approx(rate, rel=1e-12)
    assert scaled.arrival_s[0] == 0
    before, after = np.diff(trace.arrival_s), np.diff(scaled.arrival_s)
    assert after / after.sum() == pytest.approx(before / before.sum(), abs=1e-12)
    assert scaled.prompt_tokens is trace.prompt_tokens


def test_there_is_no_rate_to_scale_to_without_a_gap(file):
    with pytest.raises(LapsbenchError, match="single request"):
        scale_to_rate(open_trace(file(NATIVE + "3,1,1\n")), 1)
    with pytest.raises(LapsbenchError, match="all its requests at the same time"):
        scale_to_rate(open_trace(file(NATIVE + "3,1,1\n3,1,1\n")), 1)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), 5e-324])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(UsageError, match="--rate"):
        scale_to_rate(open_trace("chat", limit=10), rate)


# --- generated traces


@pytest.mark.parametrize(
    ("recipe", "name"), [(CHAT, "AzureLLMInferenceTrace_conv.csv"), (CODE, "AzureLLMInferenceTrace_code.csv")]
)
def test_a_recipe_holds_the_figures_of_the_trace_it_names(recipe, name, shared):
    measured = figures(open_trace(shared(name)))
    assert name in recipe.source
    assert recipe.rate_rps == pytest.approx(measured.rate_rps, rel=1e-4)
    assert recipe.cv == pytest.approx(measured.gap_cv, rel=0.01)
    assert recipe.prompt_quantiles == pytest.approx(measured.prompt_quantiles, rel=1e-4)
    assert recipe.output_quantiles == pytest.approx(measured.output_quantiles, rel=1e-4)
    assert recipe.rank_correlation == pytest.approx(measured.rank_correlation, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("recipe", "cv_error"), [(CHAT, 0.05), (CODE, 0.12)])
def test_a_generated_trace_reproduces_its_recipe(recipe, cv_error, seed):
    trace = generate(recipe, 50_000, seed)
    assert holds(trace)
    seen = figures(trace)
    assert seen.rate_rps == pytest.approx(recipe.rate_rps, rel=1e-6)
    assert seen.gap_cv == pytest.approx(recipe.cv, rel=cv_error)
    assert seen.prompt_quantiles == pytest.approx(recipe.prompt_quantiles, rel=0.02, abs=0.5)
    assert seen.output_quantiles == pytest.approx(recipe.output_quantiles, rel=0.02, abs=0.5)
    assert seen.rank_correlation == pytest.approx(recipe.rank_correlation, abs=0.015)


@pytest.mark.parametrize("rho", [-1, -0.7, 0.4, 0.95, 1])
def test_the_rank_correlation_asked_for_is_met(rho):
    steady = tuple(float(tokens) for tokens in np.geomspace(10, 100_000, 11))
    recipe = replace(CHAT, rank_correlation=rho, prompt_quantiles=steady, output_quantiles=steady)
    assert figures(generate(recipe, 20_000, 1)).rank_correlation == pytest.approx(rho, abs=0.015)


def dispersion(trace):
    """Return the variance over the mean of the requests in windows of 1, 10 and 60 s."""
    counts = [np.bincount((trace.arrival_s // window_s).astype(int))[:-1] for window_s in (1, 10, 60)]
    return np.array([each.var() / each.mean() for each in counts])


MEASURED = {"conv": (1.39, 3.86, 16.13), "code": (13.19, 71.64, 163.96)}
"""The dispersion of the Azure traces of 2023."""


@pytest.mark.parametrize(("recipe", "name", "requests"), [(CHAT, "conv", 19_366), (CODE, "code", 8_819)])
def test_chat_wanders_and_code_bursts_as_measured(recipe, name, requests):
    made = np.mean([dispersion(generate(recipe, requests, seed)) for seed in range(12)], axis=0)
    assert np.all((made / MEASURED[name] > 0.6) & (made / MEASURED[name] < 1.6))


@pytest.mark.parametrize("name", MEASURED)
def test_the_azure_traces_wander_and_burst_so(name, shared):
    assert dispersion(open_trace(shared(f"AzureLLMInferenceTrace_{name}.csv"))) == pytest.approx(
        MEASURED[name], abs=0.01
    )


def test_clients_send_zipf_like_shares():
    shares = Counter(generate(CHAT, 20_000, 0).client_id.tolist())
    assert len(shares) == 20
    assert shares["client-01"] / shares["client-02"] == pytest.approx(2, rel=0.1)


def test_same_recipe_and_seed_same_trace_another_seed_another():
    first, again, other = generate(CODE, 500, 3), generate(CODE, 500, 3), generate(CODE, 500, 4)
    assert first.arrival_s.tolist() == again.arrival_s.tolist()
    assert first.prompt_tokens.tolist() == again.prompt_tokens.tolist()
    assert first.arrival_s.tolist() != other.arrival_s.tolist()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_smallest_traces_can_be_generated(n):
    for recipe in RECIPES:
        assert holds(generate(recipe, n, 0))


def test_a_gap_cv_of_zero_is_a_metronome():
    gaps = np.diff(generate(replace(CHAT, gap_cv=0, drift=None, rate_rps=2.0), 101, 0).arrival_s)
    assert gaps == pytest.approx(np.full(100, 0.505))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_rps": 0},
        {"rate_rps": float("nan")},
        {"gap_cv": -1},
        {"rank_correlation": 1.5},
        {"prompt_quantiles": (1, 2)},
        {"output_quantiles": tuple(range(11))},
        {"output_quantiles": tuple(range(20, 9, -1))},
        {"clients": 0},
    ],
)
def test_a_recipe_that_fits_no_trace_is_refused(wrong):
    with pytest.raises(UsageError, match="recipe 'chat': needs"):
        generate(replace(CHAT, **wrong), 10, 0)


def test_no_requests_and_negative_seeds_are_refused():
    with pytest.raises(UsageError):
        generate(CHAT, 0, 0)
    with pytest.raises(UsageError):
        generate(CHAT, 1, -1)


# --- what is shipped


def test_shipped_traces_are_found_by_name_small_and_say_what_they_are():
    assert resources.names("traces") == ("chat", "code")
    for recipe in RECIPES:
        trace = open_trace(recipe.name)
        assert isinstance(trace, Trace)
        assert len(trace) == SHIPPED_REQUESTS
        assert trace.name == recipe.name
        assert trace.provenance["label"] == "generated, not recorded"
        assert "CC-BY-4.0" in trace.provenance["recipe"]["source"]
        assert (resources.shipped("traces") / f"{recipe.name}.parquet").stat().st_size < 100_000


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_shipped_traces_are_what_their_recipe_makes(recipe):
    lying, made = open_trace(recipe.name), generate(recipe, SHIPPED_REQUESTS, SHIPPED_SEED)
    assert lying.arrival_s == pytest.approx(made.arrival_s, abs=2e-6)
    assert lying.prompt_tokens.tolist() == made.prompt_tokens.tolist()
    assert lying.output_tokens.tolist() == made.output_tokens.tolist()
    assert lying.client_id.tolist() == made.client_id.tolist()
    assert figures(lying).gap_cv == pytest.approx(recipe.cv, rel=0.03)


def test_shipped_traces_are_written_with_the_same_bytes_each_time(tmp_path):
    write_shipped(tmp_path / "here")
    command = [sys.executable, "-m", "lapsbench.traces.recipes", str(tmp_path / "there")]
    done = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[1])
    assert done.stdout + done.stderr == b""
    for recipe in RECIPES:
        name = f"{recipe.name}.parquet"
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_an_installed_copy_is_preferred_to_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "lapsbench")
    assert resources.shipped("profiles") == tmp_path / "profiles"
    assert resources.names("profiles") == ()
    for folder in ("h100-llama-3.1-8b", "unfinished"):
        (tmp_path / "lapsbench/shipped/profiles" / folder).mkdir(parents=True)
    (tmp_path / "lapsbench/shipped/profiles/h100-llama-3.1-8b/cost.parquet").touch()
    assert resources.shipped("profiles") == tmp_path / "lapsbench/shipped/profiles"
    assert resources.names("profiles") == ("h100-llama-3.1-8b",)
