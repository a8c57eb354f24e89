"""Each policy's rule, on schedules and ranks worked out by hand; `by_hand.py` says how to read them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from by_hand import ENGINE, rank, schedule
from strategies import CALIBRATION, constant, grid, workload

from lapsbench.core import Calibration, Engine, Profile
from lapsbench.errors import LapsbenchError
from lapsbench.policies.gittins import AGES, calibrate, gittins_index
from lapsbench.policies.registry import find
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import step_costs
from lapsbench.sim.setup import set_up

# order of arrival, order of size -----------------------------------------------------------------------------------


def test_fcfs_serves_in_order_of_arrival_whatever_the_sizes():
    assert schedule("fcfs", workload([0, 1, 2], [5, 1, 2])) == "AAAAABCC"


def test_fcfs_serves_those_that_arrive_together_in_the_order_of_the_trace():
    assert schedule("fcfs", workload([0, 0, 0], [2, 1, 2])) == "AABCC"


def test_fcfs_waits_for_nobody_who_has_not_arrived():
    assert schedule("fcfs", workload([0, 5.5], [2, 1])) == "AAB"


def test_fcfs_fills_a_place_as_soon_as_it_is_free():
    assert schedule("fcfs", workload([0, 0, 0], [3, 1, 2]), Engine(2, 0)) == "AB AC AC"


def test_sjf_serves_the_shortest_prediction_but_lets_a_running_job_finish():
    assert schedule("sjf", workload([0, 1, 2], [3, 5, 1])) == "AAACBBBBB"


def test_sjf_believes_predictions_not_lengths():
    work = workload([0, 0, 0], [1, 5, 2], predicted_tokens=[9, 1, 5])
    assert schedule("sjf", work) == "BBBBBCCA"


# remaining length --------------------------------------------------------------------------------------------------


def test_srpt_preempts_for_a_job_with_fewer_predicted_tokens_left():
    assert schedule("srpt", workload([0, 2], [6, 2])) == "AABBAAAA"


def test_srpt_does_not_preempt_once_less_is_left():
    assert schedule("srpt", workload([0, 4], [6, 3])) == "AAAAAABBB"


def test_srpt_serves_a_job_past_its_prediction_first():
    work = workload([0, 2], [4, 1], predicted_tokens=[1, 0.5])  # at 2: A has -1 left
    assert schedule("srpt", work) == "AAAAB"


def test_trail_is_srpt_up_to_c_times_the_prediction():
    assert schedule("trail:c=0.5", workload([0, 2], [6, 2])) == "AABBAAAA"


def test_trail_never_preempts_past_c_times_the_prediction():
    work = workload([0, 4], [6, 1])  # at 4: A has 2 left, B 1
    assert schedule("srpt", work) == "AAAABAA"
    assert schedule("trail:c=0.5", work) == "AAAAAAB"


def test_trail_with_c_0_lets_every_job_that_has_begun_finish():
    assert schedule("trail:c=0", workload([0, 1, 1], [4, 3, 1])) == "AAAACBBB"


def test_trail_with_a_large_c_is_srpt():
    work = workload([0, 1, 2, 3, 4], [9, 5, 1, 3, 1])
    assert schedule("trail:c=99", work) == schedule("srpt", work)


# promotion and turns -----------------------------------------------------------------------------------------------

STREAM = workload([0, *range(14)], [4, *[1] * 14], predicted_tokens=[50, *[1] * 14])
"""A is long; B, C, ... are short, and one arrives every second."""


def test_ltr_orders_by_predicted_total_length_and_preempts():
    work = workload([0, 3], [5, 3])  # srpt would keep A, which has 2 left
    assert schedule("ltr", work) == "AAABBBAA"


def test_ltr_promotes_a_job_idle_for_five_steps_until_it_has_run_two():
    assert schedule("ltr:starvation_steps=5,quantum_steps=2", STREAM) == "BCDEFAAGHIJKAALMNO"


def test_ltr_orders_promoted_jobs_by_prediction_too():
    # A has idled for three steps at 3, and again at 8; at 9 so has H, there since 6, whose prediction is shorter
    work = workload([0, *range(9)], [4, *[1] * 9], predicted_tokens=[50, *[1] * 9])
    assert schedule("ltr:starvation_steps=3,quantum_steps=2", work) == "BCDAAEFGAHIJA"


def test_ltr_without_starvation_lets_a_long_job_wait_for_all_short_ones():
    assert schedule("ltr", STREAM) == "BCDEFGHIJKLMNOAAAA"


def test_las_takes_turns_between_equals():
    assert schedule("las", workload([0, 0], [3, 3])) == "ABABAB"


def test_las_serves_a_newcomer_until_it_has_caught_up():
    assert schedule("las", workload([0, 3], [5, 4])) == "AAABBBABA"


# multilevel queue --------------------------------------------------------------------------------------------------


def test_mlfq_demotes_a_job_that_has_used_more_than_its_quantum():
    # A runs 2 s, more than 1, and falls to level 1; then B does, and goes to the front of that level: it stays there
    # until it has run more than 2 s in it, which it never does
    assert schedule("mlfq:quantum_s=1,starvation_s=99", workload([0, 0], [4, 4])) == "AABBBBAA"


def test_mlfq_lets_a_newcomer_pass_a_demoted_job():
    assert schedule("mlfq:quantum_s=1,starvation_s=99", workload([0, 3], [6, 1])) == "AAABAAA"


def test_mlfq_keeps_serving_a_job_within_its_quantum():
    assert schedule("mlfq:quantum_s=9,starvation_s=99", workload([0, 1], [4, 2])) == "AAAABB"


PREFILLING = Profile(
    "a second per prompt token",
    grid([("verify", 1, 1, 0, 1.0), ("prefill", 1, 1, 0, 1.0), ("prefill", 1, 9, 0, 9.0)]),
    None,
)


def test_mlfq_joins_the_first_level_whose_quantum_covers_the_prefill():
    # A's prompt takes 4 s: it joins level 2 (quantum 4), behind B, which arrives later but joins level 0
    work = workload([0, 0], [2, 3], prompt_tokens=[4, 1])
    assert schedule("mlfq:quantum_s=1,starvation_s=99", work, profile=PREFILLING) == "BBBAA"
    assert schedule("mlfq:quantum_s=4,starvation_s=99", work, profile=PREFILLING) == "AABBB"


def test_mlfq_promotes_a_job_that_has_not_run_for_the_starvation_time():
    # A falls to level 1 at 2; a job of level 0 arrives every second; at 2 + 3 A goes to the front of level 0 for 2 s
    work = workload([0, 1, 2, 3, 4, 5, 6], [5, 1, 1, 1, 1, 1, 1])
    assert schedule("mlfq:quantum_s=1,starvation_s=3", work) == "AABCDAAEFGA"
    assert schedule("mlfq:quantum_s=1,starvation_s=99", work) == "AABCDEFGAAA"


# what is learnt ----------------------------------------------------------------------------------------------------


def gittins_by_definition(samples, age):
    """Return the least over d = 1, 2, ... of E[min(S - age, d) | S > age] / P(S - age <= d | S > age)."""
    left = [sample - age for sample in samples if sample > age]
    quotients = []
    for d in range(1, max(left) + 1):
        done = sum(one <= d for one in left)
        if done:
            quotients.append(sum(min(one, d) for one in left) / done)
    return min(quotients)


@pytest.mark.parametrize(
    "samples", [[1, 100], [5], [3, 3, 3, 9], [1, 2, 4, 8, 16, 32], [7, 7, 8, 40, 41, 90], list(range(1, 30))]
)
def test_the_gittins_table_is_the_index_by_its_definition(samples):
    index = gittins_index(np.array(samples, np.int32))
    assert len(index) == AGES
    expected = [gittins_by_definition(samples, age) for age in range(max(samples))]
    assert index[: max(samples)].tolist() == pytest.approx(expected, rel=1e-12)
    assert set(index[max(samples) :].tolist()) == {index[max(samples) - 1]}


def test_the_gittins_index_rises_with_age_where_jobs_are_short_or_very_long():
    index = gittins_index(np.array([1, 1, 1, 100], np.int32))
    assert index[0] == pytest.approx(4 / 3)  # one round for each of four, three of them done
    assert index[1] == 99.0


def test_the_gittins_index_falls_with_age_where_all_jobs_are_alike():
    assert gittins_index(np.full(50, 10, np.int32))[:10].tolist() == list(range(10, 0, -1))


def learnt(rounds, classes=None, **parameters):
    """Calibrate gittins from a sample of rounds."""
    rounds = np.array(rounds, np.int32)
    classes = np.zeros(len(rounds), np.int32) if classes is None else np.array(classes, np.int32)
    sample = Calibration(rounds, np.ones(len(rounds)), classes, 2.0, 1.0)
    return calibrate(sample, {"per_class": 1.0} | parameters).reshape(8, AGES)


def test_gittins_serves_the_fresh_job_first_where_the_hazard_falls_and_the_old_one_where_it_rises():
    falling, rising = learnt([1] * 30 + [100] * 10), learnt([10] * 40)
    for table, fresh_first in ((falling, True), (rising, False)):
        fresh, old = (rank("gittins", rounds=rounds, table=table.ravel()) for rounds in (0, 5))
        assert (fresh < old) == fresh_first


def test_gittins_learns_one_row_per_predicted_class_that_has_enough_samples():
    table = learnt([10] * 30 + [50] * 30 + [99] * 3, [0] * 30 + [1] * 30 + [2] * 3)
    assert table[0, 0] == 10.0
    assert table[1, 0] == 50.0
    pooled = gittins_index(np.array([10] * 30 + [50] * 30 + [99] * 3, np.int32))
    for sparse in (2, 3, 4):
        assert table[sparse].tolist() == pooled.tolist()


def test_gittins_with_per_class_0_pools_all():
    table = learnt([10] * 30 + [50] * 30, [0] * 30 + [1] * 30, per_class=0.0)
    assert table[0].tolist() == table[1].tolist()


# estimated rounds --------------------------------------------------------------------------------------------------


def test_srpt_accept_divides_what_is_left_by_a_shrunken_rate():
    # 3 tokens in 1 round, 2 rounds of prior at 2.0: (3 + 4) / 3 tokens per round; 10 - 4 left
    assert rank("srpt-accept:prior_rounds=2", emitted_tokens=4, rounds=1, accepted_tokens=2) == pytest.approx(18 / 7)


def test_srpt_accept_starts_from_the_calibration_mean():
    assert rank("srpt-accept") == 5.0
    assert rank("srpt-accept:prior_rounds=0") == 5.0


def test_srpt_accept_without_a_prior_trusts_the_running_mean():
    assert rank("srpt-accept:prior_rounds=0", emitted_tokens=4, rounds=1, accepted_tokens=2) == 2.0


def test_srpt_accept_prefers_the_job_whose_drafts_are_accepted():
    good = rank("srpt-accept", emitted_tokens=9, rounds=2, accepted_tokens=6, predicted_tokens=20.0)
    poor = rank("srpt-accept", emitted_tokens=9, rounds=8, accepted_tokens=0, predicted_tokens=20.0)
    assert good < poor


# tails, and shares -------------------------------------------------------------------------------------------------


def boost_order(gamma, arrivals, sizes):
    ranks = [
        rank(f"boost:gamma={gamma}", arrival_s=arrival, predicted_tokens=size)
        for arrival, size in zip(arrivals, sizes, strict=True)
    ]
    return np.argsort(ranks, kind="stable").tolist()


def test_boost_with_a_small_gamma_orders_by_predicted_size():
    arrivals, sizes = [0.0, 1.0, 2.0, 3.0], [40.0, 10.0, 30.0, 20.0]
    assert boost_order(1e-6, arrivals, sizes) == [1, 3, 2, 0]
    assert boost_order(0, arrivals, sizes) == [1, 3, 2, 0]


def test_boost_with_a_large_gamma_orders_by_arrival():
    arrivals, sizes = [0.0, 1.0, 2.0, 3.0], [40.0, 10.0, 30.0, 20.0]
    assert boost_order(1e3, arrivals, sizes) == [0, 1, 2, 3]
    assert boost_order("inf", arrivals, sizes) == [0, 1, 2, 3]


def test_boost_is_arrival_minus_the_head_start_of_the_predicted_size():
    # g = 0.5 / 10 s; s = 1 s of prefill + 10 tokens / 2 per round * 1 s = 6 s
    head_start = math.log(1 / (1 - math.exp(-0.05 * 6))) / 0.05
    assert rank("boost:gamma=0.5", arrival_s=3.0, prefill_s=1.0) == pytest.approx(3.0 - head_start)


def test_vtc_serves_the_client_that_has_had_least():
    # client 0 sends A, B, C; client 1 sends D, E. Prompt 1, output 2: an admission costs 1, a token 2.
    # A: 1 + 4 = 5 for client 0; then D: 5 for client 1; a tie: the earlier request, B; then E; then C
    work = workload([0] * 5, [2] * 5, client=[0, 0, 0, 1, 1])
    assert schedule("vtc", work) == "AADDBBEECC"


def test_vtc_charges_prompts_by_w_in_and_tokens_by_w_out():
    # client 0 has long prompts, client 1 long answers
    work = workload([0] * 4, [2, 2, 6, 6], prompt_tokens=[9, 9, 1, 1], client=[0, 0, 1, 1])
    assert schedule("vtc:w_in=1,w_out=0", work) == "AACCCCCCDDDDDDBB"  # 9 against 1, 2
    assert schedule("vtc:w_in=0,w_out=1", work) == "AACCCCCCBBDDDDDD"  # 2 against 6


def test_vtc_lifts_a_client_that_returns_to_the_least_counter_of_those_waiting():
    # at 6, client 0 has run up 15, and so client 1 begins at 15; unlifted it would be served until it had caught up
    work = workload([0, 0, 0, 0, 0, 6, 6, 6], [2] * 8, client=[0] * 5 + [1] * 3)
    assert schedule("vtc", work) == "AABBCCDDFFEEGGHH"


def test_vtc_never_preempts():
    assert schedule("vtc", workload([0, 1], [4, 1], client=[0, 1])) == "AAAAB"


# bounds ------------------------------------------------------------------------------------------------------------


def test_oracles_go_by_the_truth_whatever_was_predicted():
    work = workload([0, 0, 0], [3, 1, 2], predicted_tokens=[1, 9, 5])
    assert schedule("oracle-srpt-tokens", work) == "BCCAAA"
    assert schedule("oracle-srpt-rounds", work) == "BCCAAA"


def test_knowing_rounds_beats_knowing_tokens_where_acceptance_differs():
    # A: 9 tokens, all drafts accepted: 2 rounds of 4; B: 4 tokens, none accepted: 3 rounds
    work = workload([0, 0], [9, 4], accept_runs=[3] * 9 + [0] * 4)
    work.recording_start[1], work.recording_tokens[0], work.recording_tokens[1] = 9, 9, 4
    engine, profile = Engine(1, 3), constant(draft=1e-9)
    assert schedule("oracle-srpt-tokens", work, engine, profile) == "BBBBAAA"
    assert schedule("oracle-srpt-rounds", work, engine, profile) == "AAABBBB"


def test_an_oracle_counts_an_incomplete_prompt_as_a_round():
    assert rank("oracle-srpt-rounds", predicted_rounds=5.0, rounds=2, prefill_left_tokens=0) == 3.0
    assert rank("oracle-srpt-rounds", predicted_rounds=5.0, rounds=0, prefill_left_tokens=7) == 6.0


def test_a_policy_that_calibrates_cannot_run_without_a_sample():
    work, costs = workload([0.0], [2]), step_costs(constant(), ENGINE)
    single = solo(work, ENGINE, costs)
    assert set_up(work, ENGINE, find("fcfs"), single, None)
    assert set_up(work, ENGINE, find("gittins"), single, CALIBRATION)
    for spec in ("gittins", "laps-sd", "srpt-accept", "boost"):
        with pytest.raises(LapsbenchError, match="calibration"):
            set_up(work, ENGINE, find(spec), single, None)
