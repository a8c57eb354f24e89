"""Drafts as a drafter found them when acceptance was recorded: kernel == twin, and always k found is k."""

from __future__ import annotations

from dataclasses import replace

import pytest
from drafting import recorded
from strategies import differences
from test_drafts_twin import TALLIED, check
from vllm_cases import Ask, cases

from lapsbench.policies.registry import find
from lapsbench.sim.reference import Vllm

POLICIES = ["fcfs", "srpt", "laps-sd", "priority", "las"]
SYNC = cases(Ask(scheduling=("sync",), on_preempt=("recompute", "keep")))


@pytest.mark.parametrize("spec", POLICIES)
def test_kernel_equals_twin(spec):
    def kernel_is_twin(scenario):
        policy = find(spec)
        assert not scenario.unlike(policy), scenario.engine

    check(kernel_is_twin, recorded(SYNC), 40, f"recorded {spec}")


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
