"""Drafts as a drafter found them when acceptance was recorded: kernel == twin, and always k found is k."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drafting import recorded
from strategies import Scenario, differences, grid, workload
from test_drafts_twin import TALLIED, check
from vllm_cases import Ask, cases

from lapsbench.core import Engine, Profile
from lapsbench.policies.registry import find
from lapsbench.schedules import RECORDED
from lapsbench.sim.reference import Vllm

POLICIES = ["fcfs", "srpt", "laps-sd", "priority", "las"]
SYNC = cases(Ask(scheduling=("sync",), on_preempt=("recompute", "keep")))


@pytest.mark.parametrize("spec", POLICIES)
def test_kernel_equals_twin(spec):
    def kernel_is_twin(scenario):
        policy = find(spec)
        assert not scenario.unlike(policy), scenario.engine

    check(kernel_is_twin, recorded(SYNC), 40, f"recorded {spec}")


def test_requests_behind_one_that_is_taken_out_of_a_step_keep_the_drafts_they_were_given():
    # memory for not quite two of three long ones: the least urgent goes, from the middle of what was composed
    work = workload([0.0] * 16, [90, 90, 1, 1, 1, 1, 150, *[1] * 9], prompt_tokens=[1, 17, 1, 1, 1, 1, 15, *[1] * 9])
    work = replace(
        work,
        priority=np.array([1, 1, 0, 0, 0, 1, 1, *[0] * 9], np.int32),
        recording_tokens=np.full(16, 4, np.int32),
        recording_shift=np.arange(16, dtype=np.int32) % 4,
        accept_runs=np.zeros(4, np.uint8),
        drafted=np.array([0, 0, 4, 2], np.uint8),
    )
    engine = Engine(3, 1, kv_tokens=165, on_preempt="recompute", rules="vllm", drafts=RECORDED, batched_tokens=16)
    engine = replace(engine, block_tokens=1, prefix_cache=False)
    costs = grid([("verify", 1, 1, 0, 1e-4), ("verify", 1, 2, 0, 7e-4), ("draft", 1, 1, 0, 1e-4)])
    scenario, policy = Scenario(work, engine, Profile("two prices", costs, None)), find("priority")
    assert scenario.twin(policy).preemptions.sum() > 0
    assert not scenario.unlike(policy)


@pytest.mark.parametrize("spec", POLICIES)
def test_always_as_many_found_is_that_many(spec):
    def constant(scenario):
        policy = find(spec)
        fixed = replace(scenario, engine=replace(scenario.engine, drafts=""))
        assert set(differences(scenario.replay(policy), fixed.replay(policy))) <= TALLIED | {"lookups"}

    check(constant, recorded(SYNC, least=8), 15, f"constant {spec}")


def test_a_round_has_the_drafts_that_were_found_there():
    def as_found(scenario):
        twin = Vllm(*scenario.ready(find("fcfs")), log=[])
        outcome = twin.run()
        drafted = sum(part.drafts for step in twin.log for part in step.parts if part.round)
        assert drafted == outcome.by_batch[:, 1].sum()
        for step in twin.log:
            for part in step.parts:
                assert part.drafts <= max(part.given, scenario.engine.draft_tokens * part.padded)

    check(as_found, recorded(SYNC), 20, "as found")
