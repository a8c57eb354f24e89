"""`lapsbench profiles`: put together, listed, described; and what they make is replayed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from commands import AZURE, lapsbench

from lapsbench.acceptance.rounds import rounds_of
from lapsbench.core import Costs, Profile
from lapsbench.store.linear import Linear, tabulate, together
from lapsbench.store.profile import open_profile
from lapsbench.store.suspicions import STEEP, falls, suspicions

SHIPPED = "h100-llama3.1-8b-eagle3"
LINEAR = (
    "--target 5.88590713e-3,2.10103129e-5,3.92645679e-8 --draft 2.13526175e-3,8.41429603e-7,2.37768493e-9 "
    "--overhead 1.20683946e-3"
)


# --- import


def test_an_imported_profile_replays_the_azure_trace(tmp_path, public):
    file = public("acceptance/specbench_vicuna-7b_sps-68m.jsonl")
    done = lapsbench(f"profiles import {file} --cost {SHIPPED} --out p", tmp_path).fine()
    assert done.out == "p\n"
    assert (
        "acceptance length 2.502 by the file's rounds, 2.502 in the bank, 2.502 by the file's totals: agree" in done.err
    )
    assert "see that the acceptance belongs to them" in done.err
    profile = open_profile(str(tmp_path / "p"))
    assert rounds_of(profile.bank, 20).tokens_per_round == pytest.approx(2.502, abs=1e-3)
    line = f"replay --trace {public(AZURE)} --limit 400 --profile p --policy fcfs --policy srpt --repeats 1 --json -"
    found = json.loads(lapsbench(line, tmp_path).fine().out)
    assert all(cell["finished"] == 400 for cell in found["cells"])
    assert "acceptance read from specbench_vicuna-7b_sps-68m.jsonl" in found["provenance"]


def test_one_recording_serves_every_k(tmp_path, public):
    file = public("acceptance/specdecodebench_llama3.1-8b_sharegpt.jsonl")
    trace = public("traces/mooncake_conversation_trace.jsonl")
    lapsbench(f"profiles import {file} --cost {SHIPPED} --out p", tmp_path).fine()
    lengths = []
    for k in (1, 3, 5):
        line = f"replay --trace {trace} --limit 150 --profile p --draft-tokens {k} --policy fcfs --repeats 1 --json -"
        (cell,) = json.loads(lapsbench(line, tmp_path).fine().out)["cells"]
        assert cell["finished"] == 150
        lengths.append(cell["metrics"]["acceptance_length_pooled"])
    assert 1 < lengths[0] < lengths[1] < lengths[2] < 6


def test_inference_labs_two_tables_make_a_profile(tmp_path):
    costs = "batch_size,num_draft_tokens,step_seconds\n" + "".join(
        f"{b},{q},{0.004 + 0.0001 * b * q}\n" for b in (1, 8, 32) for q in (1, 2, 4)
    )
    (tmp_path / "costs.csv").write_text(costs)
    (tmp_path / "rounds.csv").write_text(
        "commits,category,a0,a1,a2\n" + "".join(f"{i % 4},c,1,1,0\n" for i in range(256))
    )
    lapsbench("profiles import rounds.csv --cost costs.csv --out p", tmp_path).fine()
    line = "replay --limit 100 --profile p --policy fcfs --repeats 1 --draft-tokens 3 --json -"
    (cell,) = json.loads(lapsbench(line, tmp_path).fine().out)["cells"]
    assert cell["metrics"]["acceptance_length_pooled"] == pytest.approx(2.5, rel=0.05)
    assert "no prefill costs: prompts cost no time" in lapsbench("profiles describe p", tmp_path).fine().out


def test_costs_alone_make_a_profile_without_acceptance(tmp_path):
    (tmp_path / "costs.csv").write_text("batch_size,num_draft_tokens,step_seconds\n1,1,0.005\n")
    lapsbench("profiles import --cost costs.csv --out p", tmp_path).fine()
    assert "no acceptance" in lapsbench("profiles describe p", tmp_path).fine().out
    lapsbench("replay --limit 50 --profile p --draft-tokens 0 --policy fcfs --repeats 1", tmp_path).fine()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("1,1\n", "has another header"),
        ("1,1,x\n", "column 'step_seconds'"),
        ("1,1,0\n", "column 'step_seconds'"),
        ("0.5,1,1\n", "column 'batch_size'"),
        ("1,1,1\n,1,1\n", "row 2, column 'batch_size'"),
    ],
)
def test_a_bad_table_of_costs_is_one_clear_line(tmp_path, rows, reason):
    header = "batch_size,num_draft_tokens" + (",step_seconds" if rows.count(",") > 1 else "")
    (tmp_path / "costs.csv").write_text(f"{header}\n{rows}")
    done = lapsbench("profiles import --cost costs.csv --out p", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert reason in done.err
    assert not (tmp_path / "p").exists()


def test_import_writes_over_no_profile(tmp_path):
    (tmp_path / "costs.csv").write_text("batch_size,num_draft_tokens,step_seconds\n1,1,0.005\n")
    lapsbench("profiles import --cost costs.csv --out p", tmp_path).fine()
    assert "holds a profile already" in lapsbench("profiles import --cost costs.csv --out p", tmp_path).err


def test_import_without_costs_is_a_usage_error(tmp_path):
    done = lapsbench("profiles import --out p", tmp_path)
    assert done.code == 2
    assert "--cost" in done.err


# --- from-linear


def test_seven_coefficients_make_the_shipped_costs(tmp_path):
    lapsbench(f"profiles from-linear {LINEAR} --out p", tmp_path).fine()
    made, shipped = open_profile(str(tmp_path / "p")).costs, open_profile(SHIPPED).costs
    same = ~np.isin(shipped.component, ["swap_in", "swap_out"])
    assert np.array_equal(made.time_s, shipped.time_s[same])
    assert np.array_equal(made.component, shipped.component[same])


def test_seven_coefficients_and_a_synthetic_bank_replay(tmp_path):
    bank = "--acceptance synthetic:mean=2.5,spread=0.6 --draft-tokens 3"
    lapsbench(f"profiles from-linear {LINEAR} {bank} --out p", tmp_path).fine()
    profile = open_profile(str(tmp_path / "p"))
    assert rounds_of(profile.bank, 3).tokens_per_round == pytest.approx(2.5, abs=0.01)
    lapsbench("replay --limit 50 --profile p --policy fcfs --repeats 1", tmp_path).fine()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (LINEAR.replace("5.88590713e-3,", ""), "not three numbers"),
        (LINEAR.replace("5.88590713e-3", "-1"), "below 0"),
        ("--target 0,0,0 --draft 0,0,0 --overhead 0", "no time"),
        (f"{LINEAR} --acceptance synthetic:mean=9", "mean = 9"),
        (f"{LINEAR} --acceptance synthetic:men=2", "unknown key 'men'"),
    ],
)
def test_a_linear_model_that_means_nothing_is_a_usage_error(tmp_path, line, reason):
    done = lapsbench(f"profiles from-linear {line} --out p", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert reason in done.err
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("--acceptance synthetic:mean=5", "--acceptance: mean = 5"),
        ("--acceptance synthetic:mean=two", "'two' is not a number"),
        ("--acceptance-length 4.5", "--acceptance-length: mean = 4.5"),
        ("--acceptance-length 2 --draft-tokens 0", "--draft-tokens 1 or more"),
        ("--acceptance-length 1", "--acceptance-length"),
        ("--acceptance-length 2 --acceptance synthetic", "exclude each other"),
    ],
)
def test_replays_acceptance_flags_refuse_what_means_nothing(tmp_path, flags, reason):
    done = lapsbench(f"replay --limit 20 {flags}", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert reason in done.err


# --- list, describe


def test_list_names_the_shipped_profile(tmp_path):
    assert SHIPPED in lapsbench("profiles list", tmp_path).fine().out
    found = {
        each["name"]: each for each in json.loads(lapsbench("profiles list --json -", tmp_path).fine().out)["profiles"]
    }
    assert found[SHIPPED]["recordings"] == 400


def test_describe_shows_grid_origin_steps_and_acceptance(tmp_path):
    done = lapsbench(f"profiles describe {SHIPPED}", tmp_path).fine()
    for word in ("step time at context", "tokens a round at k drafts", "grid", "NVIDIA H100", "arXiv 2601.11580"):
        assert word in done.out
    assert "warning" not in done.out
    found = json.loads(lapsbench(f"profiles describe {SHIPPED} --json -", tmp_path).fine().out)
    assert found["grid"]["verify"]["query"] == list(range(1, 10))
    assert found["warnings"] == []


def test_a_step_that_gets_faster_with_more_work_is_suspicious():
    costs = together(
        [tabulate("verify", Linear(1e-3, 1e-5), (1, 2, 4), (1, 2), (0, 100)), tabulate("draft", Linear(1e-3))]
    )
    odd = costs.time_s.copy()
    odd[(costs.component == "verify") & (costs.batch_size == 4) & (costs.query_tokens == 2)] *= 0.5
    fallen = Costs(*[getattr(costs, name) for name in Costs.__slots__[:4]], odd)
    lines = suspicions(Profile("p", fallen, None))
    assert any(line.startswith("verify: 2 of 8 steps along batch_size get faster") for line in lines)
    assert not any("batch_size" in line for line in suspicions(Profile("p", costs, None)))
    assert list(falls(fallen, STEEP)) == [line for line in lines if line.startswith("verify")]
