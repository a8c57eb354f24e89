"""Every published format in small files of our own: what the public ones hold of readers, held without them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import samples
from commands import lapsbench

from lapsbench.acceptance.readers import read_acceptance
from lapsbench.acceptance.rounds import rounds_of
from lapsbench.traces import open_trace
from lapsbench.traces.figures import figures

SHIPPED = "h100-llama3.1-8b-eagle3"


def reads_as_written(path, trace, within_s):
    found = open_trace(str(path))
    assert not any("dropped" in note or "sorted" in note for note in found.notes), found.notes
    assert found.name == path.stem
    assert found.arrival_s[0] == 0
    assert found.arrival_s == pytest.approx(trace.arrival_s - trace.arrival_s[0], abs=within_s)
    assert found.prompt_tokens.tolist() == trace.prompt_tokens.tolist()
    assert found.output_tokens.tolist() == trace.output_tokens.tolist()


# --- traces


@pytest.mark.parametrize("name", ["AzureLLMInferenceTrace_conv.csv", "AzureLLMInferenceTrace_code.csv"])
def test_azure_2023_reads_as_it_lies(tmp_path, name):
    path, trace = samples.azure_2023(tmp_path, name)
    assert b"\r\n" in path.read_bytes()
    assert not path.read_bytes().endswith(b"\n")
    reads_as_written(path, trace, 1e-6)


def test_azure_2024_reads_as_it_lies(tmp_path):
    reads_as_written(*samples.azure_2024(tmp_path), 1e-6)


def test_a_slice_in_milliseconds_reads_in_seconds(tmp_path):
    reads_as_written(*samples.azure_ms(tmp_path), 1e-6)


def test_mooncake_reads_as_it_lies_ties_and_all(tmp_path):
    path, trace = samples.mooncake(tmp_path)
    found = open_trace(str(path))
    ties = int((np.diff(found.arrival_s) == 0).sum())
    assert found.prompt_tokens.tolist() == trace.prompt_tokens.tolist()
    assert set(np.unique(found.arrival_s % 3)) == {0}
    assert ties > 200
    assert f"{ties} rows arrive with the one before: in the order of the file" in found.notes


def test_describe_measures_a_trace_in_azures_format(tmp_path):
    path, trace = samples.azure_2023(tmp_path)
    done = lapsbench(f"traces describe {path} --json -", tmp_path).fine()
    found, gaps = json.loads(done.out), np.diff(trace.arrival_s)
    assert found["requests"] == 2000
    assert found["rate_rps"] == pytest.approx(2000 / gaps.sum(), rel=1e-3)
    assert found["gap_cv"] == pytest.approx(gaps.std() / gaps.mean(), rel=1e-3)
    assert found["prompt_quantiles"]["p50"] == np.median(trace.prompt_tokens)
    text = lapsbench(f"traces describe {path}", tmp_path).fine()
    assert text.err == ""
    for word in ("2,000 requests", "inter-arrival CV", "heaviest minute", "requests/s over time"):
        assert word in text.out


def test_figures_are_those_of_the_requests(tmp_path):
    path, trace = samples.azure_2023(tmp_path)
    found = figures(open_trace(str(path)))
    assert found.output_quantiles[4] == np.median(trace.output_tokens)
    assert (found.prompt_quantiles[0], found.prompt_quantiles[-1]) == (
        trace.prompt_tokens.min(),
        trace.prompt_tokens.max(),
    )
    assert abs(found.rank_correlation) < 0.2


def test_a_trace_in_azures_format_replays_and_loses_nobody(tmp_path):
    path, _ = samples.azure_2023(tmp_path)
    line = f"replay --trace {path} --load 0.9 --policy fcfs --policy laps-sd --repeats 2 --limit 500 --json -"
    for cell in json.loads(lapsbench(line, tmp_path).fine().out)["cells"]:
        assert cell["arrivals"] == cell["finished"] + cell["rejected"] + cell["unfinished"] == 500


# --- acceptance


@pytest.mark.parametrize(
    ("name", "draft"),
    [
        ("specbench_vicuna-7b_eagle.jsonl", "eagle"),
        ("specbench_vicuna-7b_sps-68m.jsonl", "sps-68m"),
        ("dflash_qwen3-4b_t0.rounds.jsonl", "dflash"),
        ("dflash_qwen3-4b_t0.samples.jsonl", "dflash"),
    ],
)
def test_recordings_have_the_acceptance_length_they_were_written_with(tmp_path, name, draft):
    reading = read_acceptance(str(samples.acceptance(tmp_path, name)))
    answers = [turn for question in samples.turns(draft) for turn in question]
    assert len(reading.bank) == (len(samples.turns(draft)) if draft == "dflash" else len(answers))
    assert reading.bank.draft_tokens_max == samples.LENGTHS[draft] - 1
    assert reading.read == reading.stated == pytest.approx(samples.mean(draft))
    assert reading.pooled == pytest.approx(samples.mean(draft))
    assert rounds_of(reading.bank, 255).rounds.sum() == sum(map(len, answers))
    assert reading.reconciliation.endswith("agree")


def test_rest_counts_from_behind_the_token_of_prefill_and_that_is_mended(tmp_path):
    reading = read_acceptance(str(samples.acceptance(tmp_path, "mtbench_vicuna-7b_rest.jsonl")))
    answers = [turn for question in samples.turns("rest") for turn in question]
    rounds = sum(map(len, answers))
    assert reading.read == pytest.approx(samples.mean("rest") - len(answers) / rounds)
    assert (reading.pooled, reading.stated) == pytest.approx((samples.mean("rest"),) * 2)
    assert f"the first round of {len(answers)} turns" in " ".join(reading.notes)
    assert reading.agrees


def test_prompts_and_categories_come_along(tmp_path):
    for name, first, prompt_tokens in (
        ("specdecodebench_llama3.1-8b_gsm8k.jsonl", "134", 103),
        ("dflash_qwen3-4b_t0.rounds.jsonl", "0", 57),
    ):
        bank = read_acceptance(str(samples.acceptance(tmp_path, name))).bank
        assert (bank.prompt_id[0], bank.prompt_tokens[0]) == (first, prompt_tokens)
    assert set(bank.category) == set(samples.CATEGORIES)
    eagle = read_acceptance(str(samples.acceptance(tmp_path, "specbench_vicuna-7b_eagle.jsonl"))).bank
    assert eagle.prompt_id[:3].tolist() == ["81.1", "81.2", "82.1"]
    assert "math_reasoning" in eagle.category


def test_an_imported_profile_says_that_its_counts_agree_and_replays(tmp_path):
    path = samples.acceptance(tmp_path, "specbench_vicuna-7b_sps-68m.jsonl")
    done = lapsbench(f"profiles import {path} --cost {SHIPPED} --out p", tmp_path).fine()
    length = f"{samples.mean('sps-68m'):.3f}"
    assert f"acceptance length {length} by the file's rounds, {length} in the bank, {length} by the file's" in done.err
    trace, _ = samples.azure_2023(tmp_path)
    line = f"replay --trace {trace} --limit 400 --profile p --policy fcfs --policy srpt --repeats 1 --json -"
    found = json.loads(lapsbench(line, tmp_path).fine().out)
    assert all(cell["finished"] == 400 for cell in found["cells"])
    assert "acceptance read from specbench_vicuna-7b_sps-68m.jsonl" in found["provenance"]


def test_one_recording_serves_every_k(tmp_path):
    path = samples.acceptance(tmp_path, "specdecodebench_llama3.1-8b_sharegpt.jsonl")
    trace, _ = samples.mooncake(tmp_path)
    lapsbench(f"profiles import {path} --cost {SHIPPED} --out p", tmp_path).fine()
    lengths = []
    for k in (1, 3, 5):
        line = f"replay --trace {trace} --limit 150 --profile p --draft-tokens {k} --policy fcfs --repeats 1 --json -"
        (cell,) = json.loads(lapsbench(line, tmp_path).fine().out)["cells"]
        assert cell["finished"] == 150
        lengths.append(cell["metrics"]["acceptance_length_pooled"])
    assert 1 < lengths[0] < lengths[1] < lengths[2] < 6
