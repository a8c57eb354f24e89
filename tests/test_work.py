"""Policies that count the prompt, what they weigh beside it, and the limit on preemption."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from by_hand import schedule
from commands import lapsbench
from strategies import CALIBRATION, Scenario, constant, differences, grid, workload
from test_twin import crowd

from lapsbench.core import Bank, Calibration, Engine, Profile
from lapsbench.errors import UsageError
from lapsbench.policies.least_work import COLUMNS, ROWS, calibrate, index, shares
from lapsbench.policies.predictors import parse_predictor
from lapsbench.policies.registry import find, policy, spec_of
from lapsbench.sim import prepare, reference
from lapsbench.sim.cost import step_costs
from lapsbench.store.profile import open_profile
from lapsbench.store.published import NAME

CASES = Path(__file__).parent / "cases"
PROMPTS = Profile(
    "a second per prompt token, and per round",
    grid([("verify", 1, 1, 0, 1.0), ("prefill", 1, 1, 0, 1.0), ("prefill", 1, 9, 0, 9.0)]),
    None,
)
SAMPLE = replace(CALIBRATION, mean_tokens_per_round=1.0, round_s=1.0)


# the prompt counts -------------------------------------------------------------------------------------------------


def test_a_long_prompt_is_work_too():
    work = workload([0, 0], [2, 3], prompt_tokens=[6, 1])  # A: 6 s of prefill and 2 of rounds; B: 1 and 3
    assert schedule("sjf", work, profile=PROMPTS)[0] == "A"
    for spec in ("work", "srpt-work", "oracle-work-tokens"):
        assert schedule(spec, work, profile=PROMPTS, calibration=SAMPLE)[0] == "B", spec


def test_srpt_work_preempts_for_less_work_and_work_does_not():
    work = workload([0, 2], [6, 2])
    assert schedule("srpt-work", work, calibration=SAMPLE) == "AABBAAAA"
    assert schedule("work", work, calibration=SAMPLE) == "AAAAAABB"


def test_srpt_work_preempts_only_where_that_gains_more_than_it_costs():
    work = workload([0, 4.5], [6, 2], prompt_tokens=[4, 1])  # at 5, A has 4 rounds left, B 2 and a prompt of 1
    again = Engine(1, 0, on_preempt="recompute")  # taking A out then costs a prefill of 6 tokens
    assert schedule("srpt-work", work, profile=PROMPTS, calibration=SAMPLE) == "AABBAAAA"
    assert schedule("srpt-work", work, again, PROMPTS, SAMPLE) == "AAAAAABB"
    assert "B" in schedule("srpt", work, again, PROMPTS).rstrip("B")


def test_with_a_margin_a_running_job_stays_for_a_little_less_work():
    work = workload([0, 2], [8, 4])
    assert schedule("srpt-work", work, calibration=SAMPLE) == "AABBBBAAAAAA"
    assert schedule("srpt-work:margin=2", work, calibration=SAMPLE) == "AAAAAAAABBBB"


def test_patience_puts_whoever_waited_first_oldest_first():
    work = workload([0, 0, 1, 2, 3, 4], [1, 5, 1, 1, 1, 1])
    assert schedule("work", work, calibration=SAMPLE) == "ACDEFBBBBB"
    assert schedule("work-patient:patience_s=3", work, calibration=SAMPLE) == "ACDBBBBBEF"


# expected tokens ---------------------------------------------------------------------------------------------------


def sample(predicted, output):
    predicted, output = np.array(predicted, float), np.array(output, float)
    nothing = np.ones(len(output), np.int32)
    return Calibration(nothing, nothing * 1.0, nothing, 2.0, 1.0, predicted_tokens=predicted, output_tokens=output)


def test_a_predictor_without_error_leaves_what_it_predicted():
    lengths = np.arange(5, 505)
    table = calibrate(sample(lengths, lengths), {}).reshape(ROWS, COLUMNS)
    assert np.allclose(table[:, :128], 1 - shares()[:128])


def test_one_prediction_for_all_leaves_what_past_lengths_say():
    ratio = np.array([10.0] * 50 + [100.0] * 50) / 55
    found, at = index(ratio) * 55, shares() * 55
    assert found[0] == pytest.approx(20)  # ten tokens each, and half of them are finished then
    gone_on = np.searchsorted(at, 11)
    assert found[gone_on] == pytest.approx(100 - at[gone_on])  # only the long ones are left


def test_what_is_left_never_rises():
    draw = np.random.default_rng(0)
    table = calibrate(sample(np.full(300, 100.0), draw.lognormal(4, 1.5, 300)), {}).reshape(ROWS, COLUMNS)
    assert np.all(np.diff(table, axis=1) <= 0)


def test_without_predictions_nobody_yields_to_one_who_is_no_better():
    work = replace(workload([0, 1, 2], [30, 3, 3]), predicted_tokens=np.full(3, 4.0))
    learnt = replace(sample([4.0] * 40, [2, 3, 4, 9] * 10), mean_tokens_per_round=1.0, round_s=1.0)
    assert schedule("least-work", work, calibration=learnt) == "A" * 30 + "BBBCCC"


# what policies may weigh -------------------------------------------------------------------------------------------

SEEN: list[tuple[float, int, float, float]] = []


@policy(preemptive=True)
def watching(job, system):
    """Write down what it is shown; for the twin, which runs it as plain Python."""
    SEEN.append((job.resume_s, system.waiting, system.backlog_s, job.prefill_left_tokens))
    return job.arrival_s


def seen(engine, work=None):
    SEEN.clear()
    rows = [("verify", 1, 1, 0, 1.0), ("prefill", 1, 1, 0, 1.0), ("prefill", 1, 90, 0, 90.0)]
    rows += [("swap_out", 1, 1, 1, 0.5), ("swap_in", 1, 1, 1, 0.25)]
    scenario = Scenario(work or workload([0], [3], prompt_tokens=40), engine, Profile("p", grid(rows), None))
    reference.replay(*replace(scenario, calibration=SAMPLE).ready(watching))
    return list(SEEN)


def test_taking_a_running_job_out_costs_what_it_has_to_compute_again():
    assert [resume for resume, *_ in seen(Engine(1, 0, on_preempt="keep"))] == [0, 0, 0]
    assert [resume for resume, *_ in seen(Engine(1, 0, on_preempt="swap"))] == [0, 0.75, 0.75]
    assert [resume for resume, *_ in seen(Engine(1, 0, on_preempt="recompute"))] == [0, 41, 42]


def test_a_prefix_cache_finds_full_blocks_again():
    vllm = Engine(1, 0, on_preempt="recompute", rules="vllm")
    assert [resume for resume, *_ in seen(vllm)][1:3] == [41 - 32, 42 - 32]
    assert [resume for resume, *_ in seen(replace(vllm, prefix_cache=False))][1:3] == [41, 42]


def test_a_policy_sees_who_waits_and_their_work():
    work = workload([0, 0, 0], [2, 3, 4], prompt_tokens=[1, 2, 3])
    found = seen(Engine(1, 0), work)
    assert [waiting for _, waiting, _, _ in found[:4]] == [0, 1, 2, 2]
    assert [backlog for _, _, backlog, _ in found[:4]] == [0, 3, 8, 12]  # rounds of a second, prompts of one a token


def test_category_means_are_those_of_the_recordings():
    runs = np.array([0] * 8 + [3] * 8, np.uint8)
    names = np.array(["chat", "code"], object)
    two = np.array([8, 8], np.int32)
    bank = Bank(names, names, two, two, np.array([0, 8, 16]), runs, 3)
    profile, engine = replace(constant(draft=1.0), bank=bank), Engine(2, 3)
    learnt = prepare.calibration(profile, engine, parse_predictor("oracle"), step_costs(profile, engine), None)
    assert learnt is not None
    assert learnt.category_tokens_per_round[:2].tolist() == [1.0, 3.5]  # 7 tokens in 2 rounds
    assert np.isnan(learnt.category_tokens_per_round[2])
    assert learnt.round_s == 2.0


def test_the_category_is_where_srpt_accept_starts_from():
    work = workload([0, 0], [6, 8], accept_runs=(0,))
    work = replace(work, category=np.array([0, 1], np.int32))  # means of 1.5 and 3 tokens a round
    assert schedule("srpt-accept", work)[0] == "A"
    assert schedule("srpt-accept:category=1", work)[0] == "B"


# preempt=N ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", ["ideal", "vllm"])
@pytest.mark.parametrize("most", [0, 1, 3])
def test_nobody_is_preempted_by_rank_more_often_than_allowed(rules, most):
    scenario = Scenario(crowd(400), Engine(8, 3, rules=rules), open_profile(NAME))
    limited, free = scenario.replay(find(f"las:preempt={most}")), scenario.replay(find("las"))
    assert limited.preemptions.max() == most < free.preemptions.max()


def test_a_limit_that_nobody_reaches_changes_nothing():
    scenario = Scenario(crowd(300), Engine(8, 3), open_profile(NAME))
    assert not differences(scenario.replay(find("srpt:preempt=999")), scenario.replay(find("srpt")))


def test_a_limit_is_part_of_the_name():
    assert spec_of(find("srpt:preempt=2")) == "srpt:preempt=2"
    assert spec_of(find("trail:c=0.5,preempt=0")) == "trail:c=0.5,preempt=0"


@pytest.mark.parametrize("spec", ["fcfs:preempt=1", "work:preempt=1", "srpt:preempt=-1", "srpt:preempt=1.5"])
def test_a_limit_that_means_nothing_is_refused(spec):
    with pytest.raises(UsageError, match="preempt"):
        find(spec)


def test_a_parameter_of_ones_own_by_that_name_wins(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def mine(job, preempt=3.0):\n    return preempt * job.arrival_s\n")
    found = find(f"{path}:mine:preempt=2")
    assert found.parameters == {"preempt": 2.0}
    assert found.preempt == float("inf")


# on the command line -----------------------------------------------------------------------------------------------

SHORT = "replay -q --limit 1500 --max-batch 8 --policy fcfs --policy work-patient"


def test_patience_comes_from_todays_p99_and_is_printed(tmp_path):
    shown = lapsbench(f"{SHORT} --load 0.6", tmp_path)
    assert shown.code == 0, shown.err
    assert "patience of work-patient at load 0.6" in " ".join(shown.out.split())


def test_where_fcfs_does_not_keep_up_a_patience_is_better_given(tmp_path):
    told = " ".join(lapsbench(f"{SHORT} --load 1.6", tmp_path).fine().out.split())
    assert "which fcfs does not hold there: give one, as work-patient:patience_s=30" in told
    assert "patience of" not in lapsbench(f"{SHORT}:patience_s=20 --load 1.6", tmp_path).fine().out


def test_an_oracle_says_what_it_bounds_and_only_it(tmp_path):
    line = "replay -q --limit 600 --max-batch 4 --load 0.8 --policy fcfs --policy oracle-srpt-rounds"
    text = " ".join(lapsbench(f"{line} --policy oracle-own-mean", tmp_path).out.split())
    assert f"oracle-srpt-rounds*: {find('oracle-srpt-rounds').bounds}" in text
    assert "oracle-own-mean*:" not in text
    assert "at most" not in text


# what other policies do has not changed ----------------------------------------------------------------------------

ENGINES = {
    "ideal keep": Engine(16, 3),
    "ideal recompute kv": Engine(16, 3, kv_tokens=3000, on_preempt="recompute"),
    "ideal swap budget": Engine(16, 3, prefill_budget=256, on_preempt="swap"),
    "vllm recompute": Engine(16, 3, rules="vllm", on_preempt="recompute", kv_tokens=3200, batched_tokens=256),
    "vllm keep async": Engine(16, 3, rules="vllm", on_preempt="keep", scheduling="async", kv_tokens=8000),
}


@pytest.mark.parametrize("name", ENGINES)
def test_policies_do_what_they_did(name):
    """`outcomes.csv` was written before policies could weigh anything."""
    profile, engine, noisy = open_profile(NAME), ENGINES[name], parse_predictor("noisy:sigma=0.5")
    learnt = prepare.calibration(profile, engine, noisy, step_costs(profile, engine), None)
    assert learnt is not None
    scenario = Scenario(crowd(800), engine, profile, calibration=learnt)
    rows = [row for row in csv.DictReader((CASES / "outcomes.csv").read_text().splitlines()) if row["engine"] == name]
    assert len(rows) == 15
    for row in rows:
        outcome = scenario.replay(find(row["policy"]))
        jct_s = float(np.nansum(outcome.finished_s - scenario.work.arrival_s))
        assert jct_s == pytest.approx(float(row["jct_sum_s"]), abs=2e-6), row["policy"]
        assert outcome.preemptions.sum() == int(row["preemptions"]), row["policy"]
        assert outcome.recomputed_tokens.sum() == int(row["recomputed_tokens"]), row["policy"]
