"""Where drafts vary from step to step: kernel == twin; a constant schedule is the constant; nothing is lost."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
from drafting import CONTROLLERS, by_batch, controlled, scheduled
from drafting import THIRD_PARTY as FILE
from hypothesis import assume, given, seed, settings
from hypothesis import strategies as st
from specimens import THIRD_PARTY, VARIANTS
from strategies import Scenario, constant, differences, scenarios, workload
from vllm_cases import Ask, cases

from lapsbench.core import FINISHED, Engine
from lapsbench.policies.registry import builtin, find
from lapsbench.sim.reference import Ideal, Vllm
from lapsbench.sim.reference.common import accepted

TALLIED = {"by_batch", "by_drafts_s"}
"""What is counted only where drafts vary."""
SPECS = [*builtin(), *VARIANTS]
BOTH = ("recompute", "keep")
DRAWN = {"ideal": scenarios(), "sync": cases(Ask(scheduling=("sync",), on_preempt=BOTH))}
DRAWN["async"] = cases(Ask(scheduling=("async",), on_preempt=BOTH))


def check(property_of, drawn, examples, name):
    """Hold a property of drawn scenarios; each name draws others."""

    @seed(zlib.crc32(name.encode()))
    @settings(deadline=None, derandomize=True, database=None, max_examples=examples)
    @given(drawn)
    def holds(scenario):
        property_of(scenario)

    holds()


def same(found, examples, drawn, name):
    def kernel_is_twin(scenario):
        assert not scenario.unlike(found), scenario.engine

    check(kernel_is_twin, drawn, examples, f"{found.name} {dict(found.parameters)} {name}")


@pytest.mark.parametrize("rules", DRAWN)
@pytest.mark.parametrize("spec", SPECS)
def test_kernel_equals_twin_under_a_schedule(spec, rules):
    same(find(spec), 6, scheduled(DRAWN[rules]), rules)


@pytest.mark.parametrize("found", THIRD_PARTY, ids=lambda found: found.name)
def test_kernel_equals_twin_under_a_schedule_and_a_third_partys_policy(found):
    same(found, 6, scheduled(DRAWN["ideal"]), "third")


@pytest.mark.parametrize("rules", DRAWN)
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_kernel_equals_twin_under_a_controller(controller, rules):
    for spec in ("fcfs", "srpt", "laps-sd"):
        same(find(spec), 6, DRAWN[rules].map(lambda it: controlled(it, controller)), f"{controller} {rules}")


@pytest.mark.parametrize("rules", ["ideal", "vllm"])
@pytest.mark.parametrize("most", [3, 8, 12])
def test_kernel_counts_places_as_the_twin_does_however_many_rounds_and_drafts(most, rules):
    outputs = np.random.default_rng(most).integers(20, 90, 200).tolist()
    work = workload([0.0] * 150 + [0.01 * i for i in range(50)], outputs, accept_runs=(0, 12, 3, 8, 1, 0, 5, 9, 2))
    engine = Engine(max_batch=170, draft_tokens=most, rules=rules, drafts=f"{FILE}:counting")
    scenario = Scenario(work, engine, constant(0.01, draft=0.001))
    for spec in ("fcfs", "srpt"):
        kernel, twin = scenario.replay(find(spec)), scenario.twin(find(spec))
        assert not differences(kernel, twin)
        assert np.flatnonzero(kernel.by_batch[:, 0]).max() > 127
        assert kernel.by_drafts_s[:, most - 3 :].any()


@pytest.mark.parametrize("spec", ["fcfs", "priority", "srpt"])
def test_kernel_equals_twin_under_many_schedules_of_vllm(spec):
    same(find(spec), 60, scheduled(DRAWN["sync"]), "many")


@pytest.mark.parametrize("spec", SPECS)
def test_a_constant_schedule_is_the_constant_on_the_ideal_engine(spec):
    def constant(scenario):
        found, engine = find(spec), scenario.engine
        other = by_batch(scenario, f"1-2:{engine.draft_tokens},3-:{engine.draft_tokens}")
        for one, two in ((scenario.replay, other.replay), (scenario.twin, other.twin)):
            assert set(differences(one(found), two(found))) <= TALLIED

    check(constant, DRAWN["ideal"], 4, spec)


class Watched(Vllm):
    """vLLM's rules, which note whether anything was padded, or was not let in because it would have been."""

    padded = False

    def pads(self, computed):
        found = super().pads(computed)
        self.padded |= found
        return found


@pytest.mark.parametrize("scheduling", ["sync", "async"])
@pytest.mark.parametrize("spec", SPECS)
def test_a_constant_schedule_is_the_constant_under_vllms_rules_where_nothing_is_padded(spec, scheduling):
    def constant(scenario):
        found = find(spec)
        twin = Watched(*scenario.ready(found))
        outcome = twin.run()
        assume(not twin.padded)  # while a schedule is on, vLLM does not
        other = by_batch(scenario, f"1-:{scenario.engine.draft_tokens}")
        assert set(differences(outcome, other.twin(found))) <= TALLIED
        assert set(differences(scenario.replay(found), other.replay(found))) <= TALLIED

    check(constant, DRAWN[scheduling], 4, spec)


class Walked(Ideal):
    """An ideal engine that holds every round to the recording."""

    def learn(self, job, drafts, ran):
        assert ran == min(accepted(self.work, job.request, job.view.emitted_tokens), drafts)
        super().learn(job, drafts, ran)


@pytest.mark.parametrize("rules", DRAWN)
def test_no_token_is_lost_and_every_round_walks_the_recording_at_its_drafts(rules):
    def conserved(scenario):
        kind = Walked if rules == "ideal" else Vllm
        outcome = kind(*scenario.ready(find("fcfs"))).run()
        done = outcome.status == FINISHED
        emitted = outcome.rounds + outcome.accepted_tokens + outcome.resumes
        assert np.array_equal(1 + emitted[done], scenario.work.output_tokens[done])
        assert outcome.by_batch[:, 2].sum() >= outcome.accepted_tokens.sum()
        assert np.all(outcome.by_batch[:, 1] >= outcome.by_batch[:, 2])
        assert outcome.by_batch[:, 0].sum() == outcome.steps or outcome.stopped
        assert np.allclose(outcome.by_drafts_s.sum(axis=1)[1:], outcome.by_batch[1:, 4])

    check(conserved, scheduled(DRAWN[rules]), 40, rules)


def test_no_drafts_in_a_step_cost_nothing():
    def free(scenario):
        found = find("fcfs")
        none = replace(scenario, engine=replace(scenario.engine, draft_tokens=0))
        outcome = by_batch(none, "1-:0").replay(found)
        assert set(differences(outcome, none.replay(found))) <= TALLIED
        assert outcome.by_batch[:, 3].sum() == 0

    check(free, DRAWN["ideal"], 20, "none")


@pytest.mark.parametrize("rules", DRAWN)
def test_a_schedule_that_never_changes_its_mind_costs_what_its_number_does(rules):
    # one range is out of reach: most_drafts, and with it the memory, is larger, and nothing else may change
    def unreachable(scenario):
        found = find("srpt")
        engine = replace(scenario.engine, kv_tokens=0, max_model_len=0)
        assume(not (rules != "ideal" and engine.draft_tokens == 0))
        one = by_batch(replace(scenario, engine=engine), "1-9:2")
        two = by_batch(replace(scenario, engine=engine), "1-9:2,10-:8")
        first, second = one.replay(found), two.replay(found)
        assert set(differences(first, second)) <= {"by_drafts_s"}  # which has a column for every number there may be
        assert np.array_equal(first.by_drafts_s, second.by_drafts_s[:, :3])
        assert not second.by_drafts_s[:, 3:].any()

    check(unreachable, st.one_of(DRAWN[rules]), 10, rules)
