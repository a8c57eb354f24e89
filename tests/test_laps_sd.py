"""laps-sd: when a job turns perceptible, where it is queued, and the two settings that make it a known policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from by_hand import rank, schedule
from hypothesis import given, settings
from strategies import CALIBRATION as SAMPLE
from strategies import differences, scenarios, workload

from lapsbench.core import CALIBRATION, SCRATCH
from lapsbench.policies.registry import find, policy
from lapsbench.policies.view import TIER

few = settings(deadline=None, derandomize=True, database=None, max_examples=30)


# the two identities ------------------------------------------------------------------------------------------------


@policy(preemptive=True, knows=(CALIBRATION,))
def multilevel_queue(job, system):
    """Serve the lowest of eight queues by attained service, thresholds doubling; first come, first served in each."""
    threshold_s, queue = system.service_p20_s, 0
    while queue < 7 and job.attained_s >= threshold_s:
        threshold_s *= 2
        queue += 1
    return queue * 1e7 + job.arrival_s


@few
@given(scenarios())
def test_with_eps_0_it_is_a_plain_multilevel_queue(scenario):
    assert not differences(scenario.replay(find("laps-sd:eps=0")), scenario.replay(multilevel_queue))


@few
@given(scenarios())
def test_with_eps_inf_and_window_0_it_is_srpt_accept(scenario):
    assert not differences(scenario.replay(find("laps-sd:eps=inf,W=0")), scenario.replay(find("srpt-accept")))


@few
@given(scenarios())
def test_the_prior_is_that_of_srpt_accept(scenario):
    one, other = find("laps-sd:eps=inf,W=0,k0=2"), find("srpt-accept:k0=2")
    assert not differences(scenario.replay(one), scenario.replay(other))


# turning perceptible -----------------------------------------------------------------------------------------------


def states(accepted, spec):
    """Feed one job its rounds, drafts accepted per round, and return whether it is perceptible after each."""
    scratch, seen = np.zeros(SCRATCH), []
    for rounds in range(len(accepted) + 1):
        total = sum(accepted[:rounds])
        rank(spec, rounds=rounds, accepted_tokens=total, emitted_tokens=1 + rounds + total, scratch=scratch)
        seen.append(bool(scratch[0]))
    return seen


def test_a_job_is_not_perceptible_before_it_has_done_a_window_of_rounds():
    assert states([2] * 5, "laps-sd:window=3,eps=0.5") == [False, False, False, True, True, True]


def test_a_job_is_perceptible_once_the_spread_of_its_running_means_is_below_eps():
    # running means 4, 2.5, 2, 1.75: spread over mean of the last two .23, .11, .067
    assert states([3, 0, 0, 0], "laps-sd:window=2,eps=0.12") == [False, False, False, True, True]
    assert states([3, 0, 0, 0], "laps-sd:window=2,eps=0.08") == [False, False, False, False, True]


def test_a_perceptible_job_stays_so_whatever_its_drafts_do_later():
    assert states([1, 1, 9, 0, 9, 0], "laps-sd:window=2,eps=0.05") == [False, False] + [True] * 5


def test_a_job_whose_acceptance_swings_never_turns_perceptible():
    assert not any(states([9, 0] * 3, "laps-sd:window=3,eps=0.05"))


def test_a_window_holds_32_rounds_at_most():
    assert states([0] * 33, "laps-sd:window=inf").index(True) == 32


def test_only_the_last_window_of_rounds_counts():
    wild_then_steady = [9, 0] + [4] * 30
    assert states(wild_then_steady, "laps-sd:window=4,eps=0.01")[-1]


# ranks -------------------------------------------------------------------------------------------------------------


def queue_of(value):
    return int(value // TIER) // 2


def test_a_new_job_starts_in_the_highest_queue_and_its_prediction_does_not_count():
    short, long = (rank("laps-sd", predicted_tokens=tokens, arrival_s=3.0) for tokens in (1.0, 9999.0))
    assert short == long == TIER + 3.0


@pytest.mark.parametrize(("attained_s", "queue"), [(0, 0), (1.9, 0), (2, 1), (3.9, 1), (4, 2), (255, 7), (9999, 7)])
def test_a_non_perceptible_job_falls_as_its_attained_service_doubles(attained_s, queue):
    assert queue_of(rank("laps-sd", attained_s=attained_s)) == queue  # thresholds 2, 4, 8, ... 128 s


def test_thresholds_queues_and_growth_are_parameters():
    assert queue_of(rank("laps-sd:quantum_s=5", attained_s=9)) == 1
    assert queue_of(rank("laps-sd:q0=5", attained_s=9)) == 1
    assert queue_of(rank("laps-sd:quantum_s=5,growth=3", attained_s=16)) == 2
    assert queue_of(rank("laps-sd:K=2", attained_s=999)) == 1


def perceptible(**fields):
    scratch = np.zeros(SCRATCH)
    scratch[0] = 1.0
    return rank("laps-sd", scratch=scratch, **fields)


def test_a_perceptible_job_is_queued_by_attained_service_plus_estimated_rest():
    # no rounds yet: 2 tokens a round, 1 s a round; 20 tokens left are 10 s; with 3 s attained: 13 s, between 8 and 16
    assert queue_of(perceptible(predicted_tokens=20.0, attained_s=3.0)) == 3
    assert perceptible(predicted_tokens=20.0, attained_s=3.0) == 6 * TIER + 10.0


def test_a_perceptible_job_may_rise_when_it_has_little_left():
    assert queue_of(rank("laps-sd", attained_s=1.0, emitted_tokens=9)) == 0
    assert queue_of(perceptible(attained_s=1.0, emitted_tokens=9, predicted_tokens=10.0)) == 0


def test_a_perceptible_job_has_at_least_one_token_left():
    assert perceptible(predicted_tokens=5.0, emitted_tokens=50) == 0.5


def test_within_a_queue_perceptible_jobs_go_first_the_shortest_ahead():
    ranks = [
        perceptible(predicted_tokens=6.0, attained_s=4.0),
        perceptible(predicted_tokens=7.0, attained_s=4.0),
        rank("laps-sd", attained_s=4.0, arrival_s=1.0),
        rank("laps-sd", attained_s=4.0, arrival_s=2.0),
    ]
    assert ranks == sorted(ranks)
    assert {queue_of(one) for one in ranks} == {2}


def test_a_whole_schedule():
    # One token a round, so a job is stable after two: three steps, its prompt being the first. Thresholds 4 and 8 s.
    # At 3, A has 6 s left and 3 s behind it: queue 2. At 6, B has 1 s left, 4 in all: queue 1, and C, new in queue 0,
    # goes first. Had A stayed where its 3 s put it, it would have gone on.
    one_a_round = replace(SAMPLE, mean_tokens_per_round=1.0, mean_round_s=1.0)
    work = workload([0, 0, 5], [9, 4, 1])
    assert schedule("laps-sd:window=2,quantum_s=4", work, calibration=one_a_round) == "AAABBBCBAAAAAA"
    assert schedule("laps-sd:window=2,quantum_s=4,eps=0", work, calibration=one_a_round) == "AAAABBBBCAAAAA"
