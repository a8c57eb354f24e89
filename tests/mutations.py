"""Files of every format, and how they get damaged: what the fuzzers of test_fuzz.py and fuzz.py are made of."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from lapsbench.acceptance.readers import read_acceptance
from lapsbench.errors import LapsbenchError
from lapsbench.store.tables import read_costs
from lapsbench.traces import open_trace
from lapsbench.traces.description import describe, to_json

CASES = Path(__file__).parent / "cases"
ROWS = 6
OWN = "arrival=ts,prompt=in,output=out,client=who"
PATHS = "arrival=meta.sent,prompt=usage.in.value,output=usage.out.0,client=meta.who,ok=end:ok|stop"
POSITIONS = "arrival=1,prompt=3,output=4,ok=5:ok"
MORE = {  # how a file of TRACES is opened, where it does not tell everything itself
    "own": {"columns": OWN, "time_unit": "ms"},
    "own times": {"columns": OWN},
    "own paths": {"columns": PATHS},
    "own paths kept": {"columns": PATHS, "failed": "keep"},
    "own positions": {"columns": POSITIONS},
    "lengths": {"arrivals": False},
    "lengths of mooncake": {"arrivals": False},
    "own fractions": {"columns": OWN, "failed": "keep"},
    "epoch": {"time_unit": "us"},
    "parquet epoch": {"time_unit": "ns"},
    "mooncake epoch": {"time_unit": "s"},
}


def _csv(header, row):
    return (header + "\n" + "".join(row(i) + "\n" for i in range(ROWS))).encode()


def _jsonl(row):
    return "".join(json.dumps(row(i)) + "\n" for i in range(ROWS)).encode()


def _parquet(arrivals):
    buffer = io.BytesIO()
    columns = {"arrival_s": arrivals, "prompt_tokens": np.arange(1, 7), "output_tokens": np.arange(2, 8)}
    pq.write_table(pa.table(columns), buffer, compression="none")
    return buffer.getvalue()


def _served(i):
    ones = list(range(1, ROWS + 1))
    return {
        "start_times": [0.5 * each for each in ones],
        "input_lens": ones,
        "output_lens": ones,
        "errors": [""] * ROWS,
    }


def _aiperf(i):
    sent = {"request_start_ns": 1800000000100000000 + 7 * i, "x_correlation_id": f"s{i}"}
    if i == 1:
        return {"metadata": sent, "metrics": {"error_isl": {"value": 9}}, "error": {"code": 499, "type": "T"}}
    lengths = {"input_sequence_length": {"value": i + 1}, "output_sequence_length": {"value": 3, "unit": "tokens"}}
    return {"metadata": sent, "metrics": lengths, "error": None}


def _turn(i):
    first = {"timestamp": 1000 * i} if i % 3 == 0 else {"delay": 500} if i % 3 == 1 else {}
    return {"session_id": f"s{i // 3}", **first, "input_length": 9, "output_length": 1 + i}


def _guidellm():
    sent = [{"request_start_time": 1759813207.1 + i, "prompt_tokens": 9, "output_tokens": 1 + i} for i in range(ROWS)]
    runs = [{"requests": {"successful": sent[::2], "incomplete": sent[1:2], "errored": []}}, {"requests": {}}]
    return {"metadata": {"version": 1}, "benchmarks": [*runs, {"requests": {"successful": sent[3::2]}}]}


def _session(i):
    if i % 2:
        return {"input_toks": 5, "output_toks": 1 + i, "arrival_time_ns": 10**8 * i}
    turn = {"input_toks": 700, "output_toks": 60 + i, "tool_duration_ns": 90000000 * i}
    return {"session_id": f"u{i}", "arrival_time_ns": 10**8 * i, "sub_requests": [turn, turn][: 2 - i // 4]}


def _own_path(i):
    usage = {"in": {"value": i}, "out": [i + 1]}
    return {"meta": {"sent": i / 2, "who": f"w{i}"}, "usage": usage, "end": ("ok", "stop", None)[i % 3]}


def _native(i):
    return {"arrival_s": i, "prompt_tokens": 5 + i, "output_tokens": 3, "client_id": f"c{i}"}


TRACES = {
    "native": _csv("arrival_s,prompt_tokens,output_tokens,category", lambda i: f"{i / 3},{i + 1},{i + 2},k{i}"),
    "azure 2023": _csv("TIMESTAMP,ContextTokens,GeneratedTokens", lambda i: f"2023-11-16 18:15:4{i}.6805900,{i},{i}"),
    "azure 2024": _csv("TIMESTAMP,ContextTokens,GeneratedTokens", lambda i: f"2024-05-12 08:47:4{i}.02+00:00,9,{i}"),
    "multimodal": _csv("TIMESTAMP,NumImages,ContextTokens,GeneratedTokens", lambda i: f"2024-10-15 00:00:0{i},1,9,{i}"),
    "azure ms": _csv("request_id,arrival_ms,output_tokens,prompt_tokens", lambda i: f"r{i},{i}.000,{i},9"),
    "burstgpt": _csv(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
        lambda i: f"{i},GPT-4,9,{i},{9 + i},API log",
    ),
    "burstgpt 3": _csv(
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type",
        lambda i: f"{i}.0,s{i},1,ChatGPT,9,{i},{9 + i},Conversation log",
    ),
    "mooncake": _jsonl(
        lambda i: {"timestamp": 3000 * (i // 2), "input_length": 9, "output_length": i, "hash_ids": [i]}
    ),
    "native jsonl": _jsonl(_native),
    "native json": json.dumps([_native(i) for i in range(ROWS)], indent=1).encode(),
    "vllm": json.dumps(_served(0)).encode(),
    "vllm pretty": json.dumps(_served(0), indent=2).encode(),
    "sglang": json.dumps({"request_rate": 4.0, **{k: v for k, v in _served(0).items() if k != "start_times"}}).encode(),
    "parquet": _parquet(np.arange(6.0)),
    "parquet epoch": _parquet(1787267980014429184 + np.arange(6)),
    "epoch": _csv("arrival_s,prompt_tokens,output_tokens", lambda i: f"{1787267980014429 + i},{i + 1},{i + 2}"),
    "bailian": _jsonl(lambda i: {"chat_id": i, "timestamp": i / 3, "input_length": 9, "output_length": i, "turn": 1}),
    "ragpulse": _jsonl(
        lambda i: {"timestamp": f"{27 * i}", "input_length": 9, "output_length": 1 + i, "hash_ids": {"sys": [i]}}
    ),
    "mooncake epoch": _jsonl(lambda i: {"timestamp": 1787267980.25 + i, "input_length": 9, "output_length": i}),
    "own": _csv("ts,in,out,who", lambda i: f"{1700000000000 + i},{i},{i + 1},w{i}"),
    "own fractions": _csv("ts,in,out,who", lambda i: f'"2026-01-02 03:04:0{i},123",{i},{i + 1 if i % 2 else ""},w{i}'),
    "aiperf": _jsonl(_aiperf),
    "aiperf sessions": _jsonl(_turn),
    "guidellm": json.dumps(_guidellm()).encode(),
    "guidellm pretty": json.dumps(_guidellm(), indent=1).encode(),
    "inference-perf": json.dumps(
        [{"start_time": 100.5 + i, "info": {"input_tokens": 9, "output_tokens": i}, "error": None} for i in range(ROWS)]
    ).encode(),
    "llmservingsim": _jsonl(_session),
    "blis": _csv(
        "request_id,client_id,slo_class,prefix_length,input_tokens,output_tokens,arrival_time_us,status",
        lambda i: f"{i},c,batch,{i},{9 + i},{1 + i},{1000 * i},{'error' if i == 2 else 'ok'}",
    ),
    "vidur": _csv("arrived_at,num_prefill_tokens,num_decode_tokens", lambda i: f"{i / 3},{9 + i},{i}"),
    "lengths": _csv("num_prefill_tokens,num_decode_tokens,pd_ratio", lambda i: f"{9 + i},{i},1.5"),
    "lengths of mooncake": _jsonl(lambda i: {"input_length": 9, "output_length": i}),
    "own paths": _jsonl(_own_path),
    "own paths kept": json.dumps([_own_path(i) for i in range(ROWS)]).encode(),
    "own positions": _csv("0,x,9,5,ok", lambda i: f"{i},y,{i},{i + 1},{'ok' if i % 2 else 'timeout'}"),
    "own times": _csv("ts,in,out,who", lambda i: f"2026-01-02T03:04:0{i}Z,{i},{i + 1},w{i}"),
}


def _choice(i):
    return {"accept_lengths": [2, 1, 3], "decoding_steps": [2, 1], "new_tokens": [3, 3]}


ACCEPTANCE = {
    "spec-bench": _jsonl(lambda i: {"question_id": i, "category": "qa", "choices": [_choice(i)]}),
    "rest": _jsonl(
        lambda i: {"question_id": i, "choices": [{"accept_lengths:": [0, 2], "idxs": [1], "new_tokens": [3]}]}
    ),
    "specdecode-bench": _jsonl(
        lambda i: {
            "id": str(i),
            "prompt_token_ids": [1, 2],
            "acc_eagle": {"acc_len": [1, 3, 2]},
            "acc_ngram": {"acc_len": [1]},
        }
    ),
    "rounds": _jsonl(
        lambda i: {"uid": i // 2, "round_idx": i % 2, "start_pos": 7, "proposal_len": 7, "accepted_draft": i}
    ),
    "vllm": _jsonl(
        lambda i: {
            "id": str(i),
            "metrics": {"speculative_decoding": {"per_step_accepted": [i, 0], "num_spec_tokens": 6}},
        }
    ),
    "sglang": json.dumps(
        [{"meta_info": {"completion_tokens": 9, "spec_verify_ct": 4, "spec_accept_histogram": [2, 1, 1]}}] * ROWS
    ).encode(),
    "inference-lab": _csv("commits,category,a0,a1,a2", lambda i: f"{i % 4},code,0.5,0.5,0.1"),
    **{path.stem: path.read_bytes() for path in sorted((CASES / "acceptance").iterdir()) if path.stat().st_size < 5000},
}
COSTS = {
    "costs": _csv("batch_size,num_draft_tokens,step_seconds", lambda i: f"{i + 1},2,0.00{i + 1}"),
    **{path.stem: path.read_bytes() for path in sorted((CASES / "costs").iterdir())},
}
REFUSED = {
    **dict.fromkeys(("eagle_answers", "llamacpp_timings", "trtllm_perf", "vllm_metrics"), "holds a mean only"),
    **dict.fromkeys(("aic_gemm_perf", "llmservingsim_layers", "vidur_mlp"), "holds times per layer"),
    "vllm_latency": "holds times of whole requests",
}
"""These hold nothing to read, undamaged too, and are told so."""

ODD = (
    *(
        b"1000000000",
        b"-1",
        b"nan",
        b"inf",
        b"1e400",
        b"",
        b"0",
        b"9" * 30,
        b"1.5",
        b"null",
        b"true",
        b'""',
        b"[]",
        b"{}",
    ),
    *(
        b"\0",
        b"\xff",
        b'"',
        b",",
        b"\n",
        b"\r\n",
        b"\n\n",
        b" ",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xa8",
        b"'",
        b"}",
        b"]",
        b"\\",
    ),
)


@st.composite
def damaged(draw, files):
    """A name of `files`, and its bytes after one to four things went wrong."""
    name = draw(st.sampled_from(sorted(files)))
    data = files[name]
    for _ in range(draw(st.integers(0, 4))):
        data = _damage(draw, data)
    packing = draw(st.sampled_from(("", "", "", "gzip", "zstd")))
    if packing:
        data = gzip.compress(data, mtime=0) if packing == "gzip" else pa.Codec("zstd").compress(data, asbytes=True)
        if draw(st.booleans()):
            data = _damage(draw, data)
    return name, data


def _damage(draw, data):
    place = draw(st.integers(0, max(len(data) - 1, 0)))
    end = place + draw(st.integers(0, 24))
    return draw(st.sampled_from(DAMAGES))(draw, data, place, end)


def _more_lines(draw, data, place, end):
    return b"\n".join(draw(st.permutations(data.split(b"\n"))))


def _column_twice(draw, data, place, end):
    head, newline, rest = data.partition(b"\n")
    names = head.split(b",")
    return b",".join([*names, names[place % len(names)]]) + newline + rest


def _encoded(draw, data, place, end):
    return data.decode("latin-1").encode(draw(st.sampled_from(("utf-16", "latin-1", "utf-32", "utf-8-sig"))))


def _other_number(draw, data, *_):
    digits = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
    if not digits:
        return data
    start = end = draw(st.sampled_from(digits))
    while end < len(data) and chr(data[end]) in "0123456789.":
        end += 1
    return data[:start] + draw(st.sampled_from(ODD)) + data[end:]


DAMAGES = (
    lambda _, data, place, _end: data[:place],
    lambda _, data, place, end: data[:place] + data[end:],
    lambda draw, data, place, _end: data[:place] + draw(st.sampled_from(ODD)) + data[place:],
    lambda draw, data, place, end: data[:place] + draw(st.binary(max_size=8)) + data[end:],
    lambda _, data, place, end: data[:end] + data[place:],
    _other_number,
    _more_lines,
    _column_twice,
    _encoded,
)


def check_trace(name, data):
    """Read a damaged trace: return one clear line, or None where every row is kept or counted."""
    with _file(data) as path:
        try:
            trace = open_trace(str(path), **MORE.get(name, {}))
        except LapsbenchError as error:
            return _one_line(error)
        assert len(trace) == len(trace.prompt_tokens) == len(trace.output_tokens) > 0
        assert trace.arrival_s[0] == 0
        assert min(trace.prompt_tokens.min(), trace.output_tokens.min()) >= 1
        assert np.isfinite(trace.arrival_s).all()
        assert (np.diff(trace.arrival_s) >= 0).all()
        dropped = trace.provenance.get("rows_dropped", 0)
        assert trace.provenance["rows_read"] == len(trace) + dropped
        told = sum(int(note.split()[0]) for note in trace.notes if note.endswith("dropped"))
        assert told == dropped, trace.notes
        there = rows_of(name, trace.provenance["format"], data)
        assert there is None or trace.provenance["rows_read"] == there, (there, trace.provenance, trace.notes)
        json.dumps(to_json(describe(trace)), allow_nan=False)
        return None


def check_acceptance(name, data):
    """Read damaged acceptance: return one clear line, or None for a sound bank and every answer kept or counted."""
    with _file(data) as path:
        try:
            reading = read_acceptance(str(path))
            bank = reading.bank
        except LapsbenchError as error:
            return _one_line(error)
        assert np.diff(bank.offsets).tolist() == bank.output_tokens.tolist()
        assert bank.accept_runs.max() <= bank.draft_tokens_max <= 255
        assert min(bank.prompt_tokens.min(), bank.output_tokens.min()) >= 1
        left_out = sum(int(note.split()[0]) for note in reading.notes if note.endswith(": left out"))
        assert reading.answers == len(bank) + left_out, reading.notes
        there = rows_of(name, "", data) if reading.format in ONE_A_ROW else None
        assert there is None or reading.answers == there, (there, reading.answers)
        assert np.isfinite(reading.pooled)
        if reading.held is not None and not reading.doubts and reading.stated_by.startswith("its"):
            assert np.isclose(reading.held, reading.stated)  # every token is in a round
        return None


ONE_A_ROW = ("vLLM", "SGLang", "AIPerf", "SpecDecode-Bench")


def check_costs(name, data):
    """Read a damaged table of costs: return one clear line, or None for positive times."""
    with _file(data) as path:
        try:
            costs = read_costs(path).costs
        except LapsbenchError as error:
            return _one_line(error)
        assert (costs.time_s > 0).all()
        assert costs.batch_size.min() >= 1
        return None


def _one_line(error):
    text = str(error)
    assert "; try " in text
    assert "\n" not in text
    return text


def rows_of(name, reader, data):
    """Count the rows of a file in another way than the readers do; None where another way would not be surer."""
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    elif data.startswith(b"\x28\xb5\x2f\xfd"):
        data = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    if data.startswith(b"PAR1"):
        return pq.read_metadata(pa.BufferReader(data)).num_rows
    text = data.decode("utf-8-sig")
    start = text.lstrip()[:1]
    if start in ("{", "["):
        return _json_rows(text, INSIDE.get(reader))
    if '"' in text or "\r" in text.replace("\r\n", ""):
        return None  # readers of CSV differ in what a stray quote or carriage return means
    lines = list(csv.reader(io.StringIO(text.lstrip(), newline="")))
    rows = [line for line in lines if any(line)]
    if MORE.get(name, {}).get("columns") == POSITIONS and not {"1", "3", "4", "5"}.issubset(rows[0]):
        return None if _is_header(rows[0]) else len(rows)
    return len(rows) - 1


def _is_header(cells):
    return not any(each.strip().replace(".", "").isdecimal() for each in cells[2:4])


def _inside_sessions(record):
    turns = record.get("sub_requests")
    return 1 if turns is None else len(turns)


def _inside_benchmarks(record):
    ends = ("successful", "incomplete", "errored")
    return sum(len(run["requests"].get(end) or ()) for run in record["benchmarks"] for end in ends)


INSIDE = {"llmservingsim": _inside_sessions, "guidellm": _inside_benchmarks}


def _json_rows(text, inside=None):
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        whole = json.loads(text)
    except ValueError:
        return sum(inside(json.loads(line)) for line in lines) if inside else len(lines)
    if inside:
        return sum(inside(record) for record in (whole if isinstance(whole, list) else [whole]))
    if isinstance(whole, dict) and "input_lens" in whole and "arrival_s" not in whole:
        return len(whole["input_lens"])
    return len(whole) if isinstance(whole, list) else 1


class _file:  # noqa: N801 - a context manager in the clothes of a function
    def __init__(self, data):
        self.data = data

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "fuzzed"
        path.write_bytes(self.data)
        return path

    def __exit__(self, *_):
        self.folder.cleanup()


CHECKS = ((TRACES, check_trace), (ACCEPTANCE, check_acceptance), (COSTS, check_costs))
