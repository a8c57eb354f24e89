"""Step costs as others write them: read, or refused in one line that says what prices a step."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import lapsbench

from lapsbench.store.profile import open_profile

CASES = Path(__file__).parent / "cases" / "costs"
DOCS = Path(__file__).parents[1] / "docs" / "profiles.md"
UNPRICED = "TTFT is without prefill: the profile prices none, so prompts cost no time"


def imported(name, tmp_path):
    lapsbench(f"profiles import --cost {shlex.quote(str(CASES / name))} --out p", tmp_path).fine()
    return open_profile(str(tmp_path / "p"))


def times(profile, component):
    """Return {(batch, query, context): seconds} of one component."""
    costs = profile.costs
    rows = np.flatnonzero(costs.component == component)
    sizes = (costs.batch_size, costs.query_tokens, costs.context_tokens)
    return {tuple(int(axis[row]) for axis in sizes): float(costs.time_s[row]) for row in rows}


def test_inference_labs_steps_are_read_and_the_table_says_that_prefill_is_free(tmp_path):
    steps = times(imported("il_steps.csv", tmp_path), "verify")
    assert steps[16, 4, 1] == 0.012
    line = "replay --profile p --acceptance-length 2 --limit 60 --policy fcfs --repeats 1"
    assert UNPRICED in lapsbench(line, tmp_path).fine().out.replace("\n             ", " ")
    assert UNPRICED in json.loads(lapsbench(f"{line} --json -", tmp_path).fine().out)["notes"]


def test_a_profile_that_prices_prefill_says_nothing_of_it(tmp_path):
    assert "prices none" not in lapsbench("replay --limit 60 --policy fcfs --repeats 1", tmp_path).fine().out


def test_sglangs_one_batch_prices_plain_decoding_and_prefill(tmp_path):
    profile = imported("sglang_one_batch.jsonl", tmp_path)
    assert times(profile, "verify") == {(1, 1, 272): 0.0071, (16, 1, 272): 0.0088}
    assert times(profile, "prefill") == {(1, 1, 0): 0.0071, (1, 256, 0): 0.041, (1, 4096, 0): 0.14}
    done = lapsbench("replay --profile p --draft-tokens 0 --limit 60 --policy fcfs --repeats 1", tmp_path).fine()
    assert "prices none" not in done.out
    refused = lapsbench("replay --profile p --limit 60 --policy fcfs --repeats 1", tmp_path)
    assert refused.code == 1
    assert refused.err.count("\n") == 1


def test_a_run_of_sglang_repeated_counts_by_its_median(tmp_path):
    run = {"batch_size": 1, "input_len": 100, "output_len": 20, "prefill_latency": 0.02}
    rows = [{**run, "median_decode_latency": each} for each in (0.004, 0.009, 0.005)]
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lapsbench("profiles import --cost runs.jsonl --out p", tmp_path).fine()
    assert times(open_profile(str(tmp_path / "p")), "verify") == {(1, 1, 110): 0.005}


@pytest.mark.parametrize(
    ("name", "what", "way"),
    [
        ("aic_gemm_perf.txt", "holds times per layer (AIConfigurator)", '"From times per layer"'),
        ("vidur_mlp.csv", "holds times per layer (Vidur)", '"From times per layer"'),
        ("llmservingsim_layers.csv", "holds times per layer (LLMServingSim)", '"From times per layer"'),
        ("vllm_latency.json", "holds times of whole requests (vllm bench latency)", "--output-len"),
    ],
)
def test_times_that_price_no_step_get_one_true_line(tmp_path, name, what, way):
    done = lapsbench(f"profiles import --cost {CASES / name} --out p", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert f"{name}: {what}" in done.err
    assert way in done.err
    assert not (tmp_path / "p").exists()
    assert "## From times per layer" in DOCS.read_text()


def test_a_table_in_the_columns_of_cost_parquet_is_read_as_it_is(tmp_path):
    profile = imported("step_table.csv", tmp_path)
    assert times(profile, "verify")[16, 4, 1024] == 0.0118
    assert times(profile, "draft") == {(1, 1, 1024): 0.0011, (1, 3, 1024): 0.0033}
    assert "step costs from step_table.csv" in profile.label
    lapsbench("profiles import --cost p/cost.parquet --out again", tmp_path).fine()
    assert times(open_profile(str(tmp_path / "again")), "prefill") == times(profile, "prefill")
    lapsbench("replay --profile p --acceptance-length 2 --limit 60 --policy fcfs --repeats 1", tmp_path).fine()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("verify,1,1,0,0.1\nverify,1,1,0,0.2\n", "row 2: 'verify' repeats the grid point of row 1"),
        ("verify,1,1,0,0.1\nverify,0,1,0,0.2\n", "row 2, column 'batch_size': '0' is not a whole number from 1 up"),
        ("verify,1,1,0,-1\n", "row 1, column 'time_s': '-1' is not positive seconds"),
        ("verfy,1,1,0,1\n", "column component, row 1: verfy is not a component"),
        ("prefill,1,1,0,1\n", "no row has the component 'verify'"),
        ("", "holds no rows"),
    ],
)
def test_a_bad_table_of_steps_is_one_clear_line(tmp_path, rows, reason):
    (tmp_path / "steps.csv").write_text(f"component,batch_size,query_tokens,context_tokens,time_s\n{rows}")
    done = lapsbench("profiles import --cost steps.csv --out p", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert reason in done.err
    assert done.err.count("\n") == 1


def test_the_way_from_layers_to_a_profile_runs_as_printed(tmp_path):
    section = DOCS.read_text().partition("## From times per layer")[2].partition("\n## ")[0]
    tables = re.findall(r"```csv (\S+)\n(.*?)```", section, re.DOTALL)
    for name, text in tables:
        (tmp_path / name).write_text(text)
    assert len(tables) == 2
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    commands = [line.strip() for line in section.splitlines() if line.startswith("    lapsbench ")]
    assert len(commands) == 2
    for line in commands:
        lapsbench(line.removeprefix("lapsbench "), tmp_path).fine()
    steps = times(open_profile(str(tmp_path / "mine")), "verify")
    # 32 layers of 0.17 ms of products at 16 tokens and 0.05 ms of attention, and the head
    assert steps[16, 1, 1024] == pytest.approx((32 * (0.17 + 0.05) + 0.4) / 1000)
