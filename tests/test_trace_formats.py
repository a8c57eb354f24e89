"""Files of the tools people have, through the command line: the right rows, whoever is missing is counted."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import SCRIPT, lapsbench, plain_environment, process

CASES = Path(__file__).parent / "cases" / "traces"
AIPERF = (
    "arrival=metadata.request_start_ns,prompt=metrics.input_sequence_length.value,"
    "output=metrics.output_sequence_length.value"
)


def rows(cwd, arguments, **expected):
    """Convert a trace; return its rows as (arrival in s, prompt tokens, output tokens), and what was said."""
    done = lapsbench(f"traces convert {arguments} out.csv --force", cwd).fine()
    with (cwd / "out.csv").open() as file:
        read = list(csv.DictReader(file))
    found = [(float(row["arrival_s"]), int(row["prompt_tokens"]), int(row["output_tokens"])) for row in read]
    for column, values in expected.items():
        assert [row[column] for row in read] == values
    return [(pytest.approx(start, abs=1e-6), prompt, output) for start, prompt, output in found], done.err


def refused(cwd, line, code=1):
    done = lapsbench(line, cwd)
    assert (done.code, done.out) == (code, "")
    assert done.err.count("\n") == 1
    return done.err


# --- formats

FAILED = {
    "aiperf_profile_export.jsonl": ("aiperf", [(0, 320, 41), (1.2, 210, 77)], [(1.4, 320, 1)]),
    "blis_tracev2.csv": ("blis", [(0, 512, 128)], [(0.249, 256, 1), (0.499, 256, 1)]),
    "guidellm_benchmarks.json": ("guidellm", [(0, 256, 128), (1.3, 256, 128)], [(2.3, 256, 1)]),
}
WHOLE = {
    "aiperf_mooncake_sessions.jsonl": ("aiperf sessions", [(0, 410, 33), (1.5, 480, 40), (7.2, 512, 21)]),
    "inference_perf_per_request.json": ("inference-perf", [(0, 120, 33), (0.5, 80, 12)]),
    "inference_perf_deeper.json": ("inference-perf", [(0, 120, 33)]),
    "lss_agentic.jsonl": ("llmservingsim", [(0, 700, 60), (0.09, 820, 44), (0.599, 30, 12)]),
    "lss_flat_and_sessions.jsonl": ("llmservingsim", [(0, 10, 70), (0.301, 22, 104), (0.401, 30, 5)]),
    "vidur.csv": ("vidur", [(0, 374, 44), (4.314579, 396, 109)]),
}


@pytest.mark.parametrize("name", FAILED)
def test_failed_requests_are_dropped_and_counted_or_kept_with_one_token(tmp_path, name):
    reader, served, failed = FAILED[name]
    noun = "request" if reader == "guidellm" else "row"
    said = f"{len(failed)} {noun}{'' if len(failed) == 1 else 's'} that failed: "
    found, err = rows(tmp_path, CASES / name)
    assert found == served
    assert said + "dropped" in err
    found, err = rows(tmp_path, f"{CASES / name} --failed keep")
    assert found == served + failed
    assert said + "kept with 1 output token" in err


@pytest.mark.parametrize("name", WHOLE)
def test_every_request_of_a_format_is_read(tmp_path, name):
    reader, expected = WHOLE[name]
    assert rows(tmp_path, CASES / name)[0] == expected
    told = json.loads(lapsbench(f"traces describe {CASES / name} --json -", tmp_path).fine().out)
    assert (told["format"], told["requests"]) == (reader, len(expected))


@pytest.mark.parametrize("name", [*FAILED, *WHOLE])
def test_every_format_is_replayed(tmp_path, name):
    served = (FAILED.get(name) or WHOLE[name])[1]
    done = lapsbench(f"replay --trace {CASES / name} --policy fcfs --repeats 1 --json - --quiet", tmp_path).fine()
    (cell,) = json.loads(done.out)["cells"]
    assert (cell["arrivals"], cell["finished"]) == (len(served), len(served))


def test_sessions_and_classes_keep_their_names(tmp_path):
    rows(tmp_path, CASES / "blis_tracev2.csv", client_id=["c0"], category=["critical"])
    rows(tmp_path, CASES / "lss_agentic.jsonl", client_id=["u0", "u0", "u1"])
    rows(tmp_path, CASES / "aiperf_mooncake_sessions.jsonl", client_id=["p", "p", "q"])


def test_a_turn_that_waits_for_an_answer_comes_its_delay_after_the_turn_before(tmp_path):
    turns = [
        {"session_id": "a", "timestamp": 1000, "input_length": 1, "output_length": 9},
        {"session_id": "a", "delay": 500, "input_length": 2, "output_length": 9},
        {"session_id": "b", "timestamp": 1200, "input_length": 3, "output_length": 9},
        {"session_id": "a", "input_length": 4, "output_length": 9},
        {"session_id": "a", "timestamp": 9000, "input_length": 5, "output_length": 9},
        {"session_id": "a", "delay": 100, "input_length": 6, "output_length": 9},
    ]
    (tmp_path / "turns.jsonl").write_text("".join(json.dumps(turn) + "\n" for turn in turns))
    found, err = rows(tmp_path, "turns.jsonl")
    assert [(start, prompt) for start, prompt, _ in found] == [(0, 1), (0.2, 3), (0.5, 2), (0.5, 4), (8, 5), (8.1, 6)]
    assert "3 requests after a delay: that long after the one before in the session arrived" in err


def test_a_session_that_begins_with_a_delay_has_no_arrival(tmp_path):
    first = {"session_id": "a", "timestamp": None, "delay": 5, "input_length": 1, "output_length": 9}
    (tmp_path / "turns.jsonl").write_text(json.dumps(first) + "\n" + json.dumps({**first, "timestamp": 3}))
    assert "row 1, column 'timestamp': the value is missing" in refused(tmp_path, "traces describe turns.jsonl")


def test_the_prefix_that_a_group_shares_is_part_of_the_prompt(tmp_path):
    table = (CASES / "blis_tracev2.csv").read_text().replace(",0,,0,true,512,", ",0,g,100,true,512,")
    (tmp_path / "shared.csv").write_text(table)
    assert rows(tmp_path, "shared.csv")[0] == [(0, 612, 128)]


def test_several_benchmarks_of_a_report_say_where_each_begins(tmp_path):
    report = json.loads((CASES / "guidellm_benchmarks.json").read_text())
    later = json.loads((CASES / "guidellm_benchmarks.json").read_text())["benchmarks"][0]
    for request in later["requests"]["successful"]:
        request["request_start_time"] += 60
    report["benchmarks"].append({"requests": {"successful": later["requests"]["successful"]}})
    (tmp_path / "sweep.json").write_text(json.dumps(report))
    found, err = rows(tmp_path, "sweep.json")
    assert len(found) == 4
    assert "2 benchmarks one after the other, at 0, 60 s: --window START:END keeps one" in err


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.json", '{"benchmarks": [{"requests": 3}]}', "column 'benchmarks': holds no requests by how they ended"),
        ("b.jsonl", '{"arrival_time_ns": 1, "sub_requests": 7}\n', "row 1, column 'sub_requests': is not a list"),
        ("c.json", '[{"start_time": 1, "info": {"input_tokens": "x", "output_tokens": 1}}]', "'x' is not a number"),
    ],
)
def test_a_torn_file_names_the_place(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    assert reason in refused(tmp_path, f"traces describe {name}")


# --- lengths without arrivals


def test_lengths_alone_make_a_trace_and_are_refused_elsewhere(tmp_path):
    (tmp_path / "lengths.csv").write_text("num_prefill_tokens,num_decode_tokens,pd_ratio\n10,5,2\n30,0,0\n20,6,3\n")
    done = lapsbench("traces make made.csv --like lengths.csv --rate 5 --requests 400", tmp_path).fine()
    assert "1 row with no output tokens (failed): dropped" in done.err
    with (tmp_path / "made.csv").open() as file:
        made = {(row["prompt_tokens"], row["output_tokens"]) for row in csv.DictReader(file)}
    assert made == {("10", "5"), ("20", "6")}
    err = refused(tmp_path, "replay --trace lengths.csv")
    assert "has no column 'arrived_at'" in err
    assert "lapsbench traces make OUT --like lengths.csv --rate R" in err
    err = refused(tmp_path, "traces make again.csv --like lengths.csv")
    assert "does not say who arrives when: no rate to make a trace of; try --rate 12" in err


def test_lengths_of_ones_own_need_no_arrival_in_columns(tmp_path):
    (tmp_path / "lengths.csv").write_text("in,out\n10,5\n")
    lapsbench("traces make a.csv --like lengths.csv --columns prompt=in,output=out --rate 5", tmp_path).fine()
    line = "traces describe lengths.csv --columns prompt=in,output=out"
    assert "says nothing of arrival" in refused(tmp_path, line, code=2)


def test_one_row_is_a_trace_and_has_no_rate(tmp_path):
    assert rows(tmp_path, CASES / "onerow.csv")[0] == [(0, 12, 5)]
    err = refused(tmp_path, f"traces make a.csv --like {CASES / 'onerow.csv'}")
    assert "has a single request: no rate to make a trace of; try --rate 12" in err
    lapsbench(f"traces make a.csv --like {CASES / 'onerow.csv'} --rate 2 --requests 5", tmp_path).fine()


# --- one's own columns


def test_columns_are_paths_into_json(tmp_path):
    found, err = rows(tmp_path, f"{CASES / 'aiperf_profile_export.jsonl'} --columns {AIPERF},ok=error: --time-unit ns")
    assert found == [(0, 320, 41), (1.2, 210, 77)]
    assert "1 row that failed: dropped" in err


def test_a_path_goes_through_lists_and_a_name_with_a_dot_is_a_name(tmp_path):
    records = [{"at": [[7, 9]], "in.put": 4, "in": {"put": 5}, "out": {"it's": 6}}]
    for name, text in (("a.jsonl", json.dumps(records[0])), ("a.json", json.dumps(records, indent=1))):
        (tmp_path / name).write_text(text)
        line = f'{name} --columns "arrival=at.0.1,prompt=in.put,output=out.it\'s"'
        assert rows(tmp_path, line)[0] == [(0, 4, 6)]


def test_what_python_writes_for_no_number_does_no_harm_where_nobody_reads_it(tmp_path):
    row = '{"arrival_s": 0, "prompt_tokens": 9, "output_tokens": 2, "ttft": NaN, "in": {"itl": Infinity}}'
    for name, text in (("a.jsonl", f"{row}\n\n{row}\n"), ("a.json", f"[{row},\n{row}]")):
        (tmp_path / name).write_text(text)
        assert rows(tmp_path, name)[0] == [(0, 9, 2), (0, 9, 2)]


def test_a_path_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    columns = AIPERF.replace("output_sequence_length", "osl")
    err = refused(tmp_path, f"traces describe {CASES / 'aiperf_profile_export.jsonl'} --columns {columns}")
    assert "has no column 'metrics.osl.value'" in err
    assert "'metrics.output_sequence_length.value'" in err


@pytest.mark.parametrize(
    ("ok", "kept"),
    [
        ("status:OK", [0, 3]),
        ("status:ok|timeout", [0, 2, 3]),
        ("error:", [0, 2]),
        ("code:200", [0, 1]),
        ("done:true", [0, 1]),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_filter_on_a_column_tells_who_failed(tmp_path, kind, ok, kept):
    status, error = ["ok", "error", "timeout", "ok"], ["", "boom", None, "late"]
    records = [
        {"t": i, "in": 5, "out": 7, "status": status[i], "error": error[i], "code": 200 + i // 2, "done": i < 2}
        for i in range(4)
    ]
    file = tmp_path / f"log.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), file)
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        lines = [",".join("" if value is None else str(value) for value in record.values()) for record in records]
        file.write_text("\n".join([",".join(records[0]), *lines]))
    columns = f"'arrival=t,prompt=in,output=out,ok={ok}'"
    found, err = rows(tmp_path, f"{file} --columns {columns}")
    assert [start for start, *_ in found] == [i - kept[0] for i in kept]
    assert f"{4 - len(kept)} row{'' if len(kept) == 3 else 's'} that failed: dropped" in err
    assert len(rows(tmp_path, f"{file} --columns {columns} --failed keep")[0]) == 4


def test_a_filter_that_lets_nobody_through_names_the_values_there_are(tmp_path):
    (tmp_path / "log.csv").write_text("t,in,out,status\n0,1,2,ok\n1,1,2,timeout\n")
    err = refused(tmp_path, "traces describe log.csv --columns arrival=t,prompt=in,output=out,ok=status:done")
    assert "column 'status': no row holds 'done'; it holds 'ok', 'timeout'" in err
    err = refused(tmp_path, "traces describe log.csv --columns arrival=t,prompt=in,output=out,ok=status", code=2)
    assert "ok=status is not ok=COLUMN:VALUE" in err


def test_what_a_failed_request_lacks_is_no_error(tmp_path):
    (tmp_path / "log.csv").write_text('t,in,out,status\n0,1,2,ok\n1,,,timeout\n2,9,"",ok\n3,8,4,timeout\n')
    line = "log.csv --columns arrival=t,prompt=in,output=out,ok=status:ok"
    found, err = rows(tmp_path, line)
    assert found == [(0, 1, 2)]
    assert "2 rows that failed: dropped" in err
    assert "1 row with no output tokens (failed): dropped" in err
    found, err = rows(tmp_path, f"{line} --failed keep")
    assert found == [(0, 1, 2), (2, 9, 1), (3, 8, 1)]
    assert "1 row with no prompt tokens: dropped" in err


def test_a_csv_without_a_header_is_read_by_position(tmp_path):
    (tmp_path / "log.csv").write_text("\n0,x,10,5\n\n2,y,20,6\n")
    line = "log.csv --columns arrival=1,client=2,prompt=3,output=4"
    found, err = rows(tmp_path, line, client_id=["x", "y"])
    assert found == [(0, 10, 5), (2, 20, 6)]
    assert "blank line" in err
    (tmp_path / "log.csv").write_text("at,who,in,out\n0,x,10,5\n2,y,20,6\n")
    found, err = rows(tmp_path, line, client_id=["x", "y"])
    assert found == [(0, 10, 5), (2, 20, 6)]
    assert "1 line without numbers: taken for the header" in err
    assert "has no column '5'; it has '1', '2', '3', '4'" in refused(
        tmp_path, "traces describe log.csv --columns arrival=1,prompt=3,output=5"
    )


def test_positions_name_columns_where_the_header_does(tmp_path):
    (tmp_path / "log.csv").write_text("3,2,1\n0,10,5\n")
    assert rows(tmp_path, "log.csv --columns arrival=3,prompt=2,output=1")[0] == [(0, 10, 5)]


# --- where a trace comes from


def _stdin(cwd, line, data):
    return process(line, cwd, input=data).fine()


@pytest.mark.parametrize("name", [*FAILED, *WHOLE, "native.parquet"])
def test_every_format_is_read_from_stdin(tmp_path, name):
    file = CASES / name
    if name == "native.parquet":
        file = tmp_path / name
        lapsbench(f"traces convert chat {file} --limit 20", tmp_path).fine()
    from_file = lapsbench(f"traces describe {file}", tmp_path).fine()
    for data in (file.read_bytes(), gzip.compress(file.read_bytes())):
        piped = _stdin(tmp_path, "traces describe -", data)
        assert piped.out.partition("\n")[2] == from_file.out.partition("\n")[2]
        assert piped.out.startswith("stdin: ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_read_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    data = (CASES / "lss_agentic.jsonl").read_bytes()
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    assert rows(tmp_path, "pipe")[0] == WHOLE["lss_agentic.jsonl"][1]
    writer.join()


@pytest.mark.skipif(shutil.which("bash") is None, reason="only bash writes <(...)")
def test_the_pipe_of_a_shell_is_read(tmp_path):
    (tmp_path / "log.gz").write_bytes(gzip.compress((CASES / "blis_tracev2.csv").read_bytes()))
    line = f"{SCRIPT} replay --trace <(gzip -dc log.gz) --policy fcfs --repeats 1 --quiet"
    done = subprocess.run(["bash", "-c", line], check=False, cwd=tmp_path, env=plain_environment(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"pipe on " in done.stdout


def test_an_error_in_what_was_piped_names_stdin_and_the_row(tmp_path):
    done = process("replay --trace -", tmp_path, input=b"arrival_s,prompt_tokens,output_tokens\n0,1,2\n1,x,2\n")
    assert (done.code, done.out) == (1, "")
    assert "stdin, row 2, column 'prompt_tokens': 'x' is not a number" in done.err
    assert "stdin: is empty" in process("traces describe -", tmp_path, input=b"").err


def test_an_address_is_answered_with_the_command_that_fetches(tmp_path):
    err = refused(tmp_path, "replay --trace https://example.org/trace.csv", code=2)
    assert "--trace: 'https://example.org/trace.csv' is an address" in err
    assert "lapsbench traces get NAME" in err
    url = "https://raw.githubusercontent.com/Azure/AzurePublicDataset/master/data/AzureLLMInferenceTrace_conv.csv"
    assert "lapsbench traces get azure-conv-2023" in refused(tmp_path, f"traces describe {url}", code=2)
