"""The invariants of docs/invariants.md that a single replay can show, each with a test that names it.

kernel == twin is `test_twin.py`, queueing theory is `test_queueing.py`, the oracle boundary is `test_boundary.py`.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Scenario, constant, differences, engines, scenarios, workload

from lapsbench.core import FINISHED, ON_PREEMPT, REJECTED, UNFINISHED, Engine
from lapsbench.policies.registry import builtin, find
from lapsbench.sim.reference import Ideal

few = settings(deadline=None, derandomize=True, database=None, max_examples=30)
policies = st.sampled_from([*builtin(), "ltr:starvation_steps=3,quantum_steps=2", "laps-sd:window=2,eps=0.3"]).map(find)


def watched(kind, scenario, policy):
    """Replay on a twin that checks itself at every step."""
    return kind(*scenario.ready(policy)).run()


# what an outcome says ----------------------------------------------------------------------------------------------


@few
@given(scenarios(), policies)
def test_conservation_every_arrival_is_finished_rejected_or_unfinished(scenario, policy):
    status = scenario.replay(policy).status
    counts = [int(np.sum(status == one)) for one in (FINISHED, REJECTED, UNFINISHED)]
    assert sum(counts) == len(scenario.work)


@few
@given(scenarios(), policies)
def test_conservation_all_finish_or_are_rejected_unless_the_run_was_stopped(scenario, policy):
    outcome = scenario.replay(policy)
    assert (outcome.stopped != "") == bool(np.any(outcome.status == UNFINISHED))


@few
@given(scenarios(), policies)
def test_causality_arrival_admission_first_token_finish(scenario, policy):
    outcome = scenario.replay(policy)
    done = outcome.status == FINISHED
    times = [scenario.work.arrival_s, outcome.admitted_s, outcome.first_token_s, outcome.finished_s]
    for earlier, later in pairwise(times):
        assert np.all(earlier[done] <= later[done])
        assert not np.any(earlier[~done] > later[~done])


@few
@given(scenarios(), policies)
def test_rejected_are_exactly_those_whose_last_round_would_not_fit_the_memory(scenario, policy):
    work, engine = scenario.work, scenario.engine
    most = work.prompt_tokens + work.output_tokens + engine.draft_tokens
    outcome = scenario.replay(policy)
    rejected = outcome.status == REJECTED
    assert rejected.tolist() == ((engine.kv_tokens > 0) & (most > engine.kv_tokens)).tolist()
    assert np.all(np.isnan(outcome.admitted_s[rejected]) & np.isnan(outcome.finished_s[rejected]))
    assert not np.any(outcome.rounds[rejected])


@few
@given(scenarios(), policies)
def test_tokens_emitted_are_the_output_tokens_of_every_finished_job(scenario, policy):
    outcome = scenario.replay(policy)
    done = outcome.status == FINISHED
    emitted = 1 + outcome.rounds + outcome.accepted_tokens  # the first token comes from the prefill
    assert emitted[done].tolist() == scenario.work.output_tokens[done].tolist()


@few
@given(scenarios(), policies, engines())
def test_emissions_depend_on_neither_the_policy_nor_the_rest_of_the_engine(scenario, policy, engine):
    other = replace(scenario, engine=replace(engine, draft_tokens=scenario.engine.draft_tokens))
    one, two = scenario.replay(find("fcfs")), other.replay(policy)
    both = (one.status == FINISHED) & (two.status == FINISHED)
    assert one.rounds[both].tolist() == two.rounds[both].tolist()
    assert one.accepted_tokens[both].tolist() == two.accepted_tokens[both].tolist()


@few
@given(scenarios(), policies)
def test_determinism_the_same_replay_twice_gives_the_same_bytes(scenario, policy):
    assert not differences(scenario.replay(policy), scenario.replay(policy))


@few
@given(scenarios())
def test_alone_s_is_the_latency_of_a_replay_of_that_request_only(scenario):
    work, engine = scenario.work, replace(scenario.engine, kv_tokens=0)
    alone = replace(scenario, engine=engine).replay(find("fcfs")).alone_s
    for i in range(min(len(work), 4)):
        columns = {
            name: getattr(work, name)[i : i + 1]
            for name in work.__dataclass_fields__
            if name not in ("accept_runs", "clients", "arrival_s")
        }
        single = replace(work, arrival_s=np.zeros(1), **columns)
        assert Scenario(single, engine, scenario.profile).replay(find("fcfs")).finished_s[0] == alone[i]


# what every step keeps ---------------------------------------------------------------------------------------------


class Monotonic(Ideal):
    """The clock never goes back."""

    def advance(self, step, dt):
        before = self.now_s
        super().advance(step, dt)
        assert dt >= 0
        assert self.now_s >= before


@few
@given(scenarios(), policies)
def test_the_clock_never_goes_back(scenario, policy):
    assert watched(Monotonic, scenario, policy).makespan_s >= 0


def need(job, engine):
    """Tokens of KV a job must hold to take part in a step: what it has, and room for a round."""
    return job.view.prompt_tokens + job.view.emitted_tokens + engine.draft_tokens + 1


class Conserving(Ideal):
    """No place stays free while a live job fits, and nobody overtakes but those who fit where others do not."""

    def select(self):
        before = {job.request for job in self.live if job.running}
        chosen = super().select()
        assert self.live
        assert chosen
        free = self.engine.kv_tokens - sum(need(job, self.engine) for job in chosen)
        picked = {job.request for job in chosen}
        for job in self.live:
            if job.request in picked or len(chosen) == self.engine.max_batch:
                continue
            assert self.engine.kv_tokens > 0
            assert need(job, self.engine) > free
        if self.engine.kv_tokens == 0:
            waiting = [job for job in self.live if job.request not in picked]
            if self.policy.preemptive:
                assert max(job.order for job in chosen) < min((job.order for job in waiting), default=(np.inf, 0))
            else:
                assert before <= picked
        return chosen


@few
@given(scenarios(), policies)
def test_work_conserving_no_place_is_free_while_a_live_job_fits(scenario, policy):
    assert watched(Conserving, scenario, policy).steps >= 0


class Frugal(Ideal):
    """Resident jobs hold no more than the memory has, before and after every step; a batch no more than B."""

    def resident(self):
        return [job for job in self.live if job.resident]

    def fill(self, chosen):
        step = super().fill(chosen)
        assert len(step.batch) <= self.engine.max_batch
        assert all(job.resident for job in step.batch)
        assert sum(need(job, self.engine) for job in self.resident()) <= self.engine.kv_tokens
        return step

    def advance(self, step, dt):
        held = self.resident()
        super().advance(step, dt)
        assert sum(job.cached_tokens for job in held) <= self.engine.kv_tokens
        for job in self.live:
            assert job.resident or job.swapped or job.cached_tokens == 0


@few
@given(scenarios(engine=engines(kv_tokens=(70, 200, 420, 900))), policies)
def test_kv_is_never_over_capacity(scenario, policy):
    watched(Frugal, scenario, policy)


class Budgeted(Ideal):
    """A step prefills no more than the budget, in rank order, and uses all of it while there is work."""

    def fill(self, chosen):
        step = super().fill(chosen)
        given_out = sum(tokens for _, tokens in step.chunks)
        wanted = sum(job.view.prefill_left_tokens for job in step.batch)
        assert given_out == min(wanted, self.engine.prefill_budget or wanted)
        unfinished = [tokens < job.view.prefill_left_tokens for job, tokens in step.chunks]
        assert not any(unfinished[:-1])
        return step


@few
@given(scenarios(), policies)
def test_the_prefill_budget_is_kept_and_used_up(scenario, policy):
    watched(Budgeted, scenario, policy)


class Counted(Ideal):
    """Integrate the number of live jobs over the steps."""

    area = 0.0

    def advance(self, step, dt):
        self.area += len(self.live) * dt
        super().advance(step, dt)

    def arrive(self, request):
        super().arrive(request)
        if request not in self.finished:
            self.area += self.now_s - float(self.work.arrival_s[request])  # it came while a step was running


@few
@given(scenarios(engine=engines(kv_tokens=(0,))), policies)
def test_littles_law_live_jobs_over_time_are_latencies_over_jobs(scenario, policy):
    twin = Counted(*scenario.ready(policy))
    outcome = twin.run()
    if not outcome.stopped:
        assert twin.area == pytest.approx(np.sum(outcome.finished_s - scenario.work.arrival_s), rel=1e-9, abs=1e-12)


# what cannot go on -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kv_tokens", [1, 5])
def test_a_memory_smaller_than_any_request_rejects_them_all_and_ends(kv_tokens):
    scenario = Scenario(workload([0, 1, 2], [4, 4, 4], prompt_tokens=9), Engine(2, 0, kv_tokens=kv_tokens), constant())
    outcome = scenario.replay(find("fcfs"))
    assert outcome.status.tolist() == [REJECTED] * 3
    assert (outcome.steps, outcome.stopped) == (0, "")


@pytest.mark.parametrize("on_preempt", ON_PREEMPT)
def test_a_livelock_ends_with_a_reason_and_unfinished_jobs(on_preempt):
    memory = {"keep": 60, "swap": 60, "recompute": 0}[on_preempt]  # keep evicts only where memory is short
    engine = Engine(1, 0, kv_tokens=memory, on_preempt=on_preempt)
    scenario = Scenario(workload([0, 0], [30, 30], prompt_tokens=20), engine, constant())
    outcome = scenario.replay(find("las"))  # turns: each throws the other's memory away, and starts over
    if on_preempt == "swap":
        assert outcome.status.tolist() == [FINISHED] * 2
        return
    assert outcome.stopped in ("stalled", "overrun")
    assert outcome.status.tolist() == [UNFINISHED] * 2
    assert np.all(np.isnan(outcome.finished_s))
    assert not differences(outcome, scenario.twin(find("las")))


def test_an_engine_without_places_ends_with_a_reason():
    scenario = Scenario(workload([0, 1], [4, 4]), Engine(0, 0), constant())
    outcome = scenario.replay(find("fcfs"))
    assert outcome.stopped == "stalled"
    assert outcome.status.tolist() == [UNFINISHED] * 2
    assert not differences(outcome, scenario.twin(find("fcfs")))


def test_a_run_without_requests_is_over_at_once():
    outcome = Scenario(workload([], []), Engine(4, 0), constant()).replay(find("srpt"))
    assert (outcome.steps, outcome.makespan_s, outcome.stopped) == (0, 0.0, "")
