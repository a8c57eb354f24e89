"""What is said around the table: each thing once, in numbers that can be, with advice that helps."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from commands import SCRIPT, lapsbench, plain_environment

CASES = Path(__file__).parent / "cases"
THRASH = f"replay --engine ideal --trace {CASES / 'kv_thrash.csv'} --kv-tokens 6000 --on-preempt recompute"


def words(done):
    """Return the lines under the table, each in one piece."""
    return " ".join(done.fine().out.split())


def bunched():
    """Return a trace whose requests come in one large bunch, and take longer than the trace."""
    times = [50 + 14 * math.log(share / (1 - share)) / 1.7 for share in ((i + 0.5) / 300 for i in range(300))]
    rows = [f"{at - times[0]:.3f},500,4000" for at in times]
    return "\n".join(["arrival_s,prompt_tokens,output_tokens", *rows, ""])


# saturation ----------------------------------------------------------------------------------------------------------


def test_a_rate_beyond_capacity_is_answered_with_one_below_it(tmp_path):
    line = "replay --policy fcfs --policy srpt --rate 40 --repeats 1 --limit 1500 --json found.json -q"
    text = words(lapsbench(line, tmp_path))
    advised = float(re.search(r"try --rate ([\d.]+)", text)[1])
    capacity = json.loads((tmp_path / "found.json").read_text())["capacity_rps"]
    assert 0.8 * capacity < advised < 0.95 * capacity
    again = words(lapsbench(f"{line.replace('--rate 40', f'--rate {advised}')}", tmp_path))
    assert "load 0.90, 1 seed" in again


def test_a_rate_below_capacity_is_answered_with_a_lower_one(tmp_path):
    line = "replay --policy las --rate 17.5 --repeats 1 --limit 1500 --max-batch 64 --json found.json -q"
    text = words(lapsbench(line, tmp_path))
    assert float(re.search(r"try --rate ([\d.]+)", text)[1]) < 17.5


def test_no_more_than_all_arrivals_pile_up(tmp_path):
    (tmp_path / "bunch.csv").write_text(bunched())
    line = "replay --trace bunch.csv --policy fcfs --policy srpt --repeats 1 --max-batch 2 --json found.json -q"
    shares = re.findall(r"up to (\d+) of 100 arrivals", words(lapsbench(line, tmp_path)))
    assert len(shares) == 1
    assert 90 < int(shares[0]) <= 100
    for cell in json.loads((tmp_path / "found.json").read_text())["cells"]:
        assert cell["saturation"]["label"] == "OVERLOADED"
        assert 0.9 < cell["saturation"]["growth_per_arrival"] <= 1


# requests left, tokens computed again --------------------------------------------------------------------------------


def test_a_policy_is_told_once_of_what_it_left_not_once_a_seed(tmp_path):
    text = words(lapsbench(f"{THRASH} --policy fcfs --policy las --load 0.9,1.2 --repeats 2 -q", tmp_path))
    assert text.count("unfinished over 2 seeds") == text.count("flatters it") == 1
    assert re.search(r"las at loads 0.9, 1.2 left 1,\d+ of 1,200 requests unfinished over 2 seeds \(stopped: ", text)


def test_recomputing_says_who_how_much_and_how_often_the_worst(tmp_path):
    line = f"{THRASH} --policy fcfs --policy srpt --repeats 1 --json found.json --out run -q"
    text = words(lapsbench(line, tmp_path))
    fcfs, srpt = (cell["recomputing"] for cell in json.loads((tmp_path / "found.json").read_text())["cells"])
    assert fcfs["preemptions_max"] > 100
    shares = [f"{100 * each['recomputed_tokens'] / each['prompt_tokens']:.0f} %" for each in (fcfs, srpt)]
    assert (
        f"by fcfs {shares[0]} (one request was preempted {fcfs['preemptions_max']} times), "
        f"srpt {shares[1]} (one request was preempted {srpt['preemptions_max']} times); try more --kv-tokens"
    ) in text
    assert words(lapsbench("report run -q", tmp_path)) == text
    assert "tokens were computed again" in lapsbench("report run --markdown - -q", tmp_path).out


@pytest.mark.parametrize("change", ["--on-preempt swap", "--kv-tokens 200000"])
def test_what_recomputing_advises_ends_it(tmp_path, change):
    text = words(lapsbench(f"{THRASH} --policy fcfs --policy srpt --repeats 1 -q {change}", tmp_path))
    assert "computed again" not in text


# compiling -----------------------------------------------------------------------------------------------------------


def test_compiling_is_said_on_a_pipe_and_only_where_something_compiles(tmp_path):
    line = "replay --limit 50 --policy fcfs --repeats 1"
    environment = plain_environment() | {"NUMBA_CACHE_DIR": str(tmp_path / "cold")}
    command = [SCRIPT, *shlex.split(line)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as cold:
        first = cold.stderr.readline()
        cold.kill()
    assert first == b"compiling the simulator, once: about half a minute\n"
    lapsbench(line, tmp_path)
    assert "compiling" not in lapsbench(line, tmp_path).fine().err


# byte-order marks ----------------------------------------------------------------------------------------------------

MARK = b"\xef\xbb\xbf"
TRACES = {
    "native.csv": b"arrival_s,prompt_tokens,output_tokens\n0,5,5\n1,6,7\n",
    "azure.csv": b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,5,5\n2023-11-16 18:15:50.99,6,7\n",
    "lines.jsonl": b'{"arrival_s": 0, "prompt_tokens": 5, "output_tokens": 5}\n',
    "mooncake.jsonl": b'{"timestamp": 0, "input_length": 5, "output_length": 5, "hash_ids": [0]}\n',
}


def test_a_scenario_file_may_begin_with_a_byte_order_mark(tmp_path):
    shown = lapsbench(f"replay {CASES / 'scenario_bom.toml'} --print-config", tmp_path).fine().out
    assert 'trace = "chat"\n' in shown


def test_a_policy_file_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "mine.py").write_bytes(MARK + b"def mine(job):\n    return job.arrival_s\n")
    done = lapsbench("replay --policy fcfs --policy mine.py:mine --limit 100 --repeats 1 -q", tmp_path).fine()
    assert "\nmine " in done.out


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_may_begin_with_a_byte_order_mark(tmp_path, name):
    said = []
    for room, content in (("plain", TRACES[name]), ("marked", MARK + TRACES[name])):
        (tmp_path / room).mkdir()
        (tmp_path / room / name).write_bytes(content)
        said.append(lapsbench(f"traces describe {name}", tmp_path / room).fine().out)
    assert said[0] == said[1]


RECORDS = [
    {"question_id": each, "choices": [{"accept_lengths": [2, 3, 1], "decoding_steps": [3], "new_tokens": [7]}]}
    for each in range(2)
]
ACCEPTANCE = {
    "lines.jsonl": "\n".join(map(json.dumps, RECORDS)).encode(),
    "whole.json": json.dumps(RECORDS).encode(),
}


@pytest.mark.parametrize("name", ACCEPTANCE)
def test_recordings_may_begin_with_a_byte_order_mark(tmp_path, name):
    said = []
    for room, content in (("plain", ACCEPTANCE[name]), ("marked", MARK + ACCEPTANCE[name])):
        (tmp_path / room).mkdir()
        (tmp_path / room / name).write_bytes(content)
        line = f"profiles import {name} --cost h100-llama3.1-8b-eagle3 --out made"
        said.append(lapsbench(line, tmp_path / room).fine().out)
    assert said[0] == said[1]


def test_costs_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "steps.csv").write_bytes(MARK + b"batch_size,num_draft_tokens,step_seconds\n1,1,0.007\n1,4,0.0075\n")
    (tmp_path / "lines.jsonl").write_bytes(ACCEPTANCE["lines.jsonl"])
    line = "profiles import lines.jsonl --cost steps.csv --out made"
    lapsbench(line, tmp_path).fine()
    assert (tmp_path / "made" / "cost.parquet").exists()
