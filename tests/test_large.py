"""Traces of millions of requests, in small: what is done in parts is what is done at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import Scenario, differences, engines, scenarios
from vllm_cases import cases

from lapsbench.core import UNFINISHED
from lapsbench.policies.registry import find
from lapsbench.sim import kernel, reference

EXAMPLES = 30
DRAWN = {"ideal": scenarios(), "vllm": cases()}


def drawn(scenarios):
    ours = settings(deadline=None, derandomize=True, database=None, max_examples=EXAMPLES)
    return lambda test: ours(given(scenarios)(test))


def burst(scenario: Scenario) -> Scenario:
    """Everybody is there at 0."""
    return replace(scenario, work=replace(scenario.work, arrival_s=np.zeros(len(scenario.work))))


@pytest.mark.parametrize(
    "scenarios", [scenarios(engine=engines(kv_tokens=(0,))), cases()], ids=["ideal, memory unlimited", "vllm"]
)
def test_fcfs_of_a_burst_is_the_same_with_most_of_it_outside(scenarios):
    # capacity is measured so: of 27 million requests that are there at 0, a few hundred lie in memory
    fcfs = find("fcfs")

    @drawn(scenarios)
    def same(scenario):
        work, engine, _, costs, setup = burst(scenario).ready(fcfs)
        most = 4 * engine.max_batch
        few = replace(setup, wait_most=most, live_most=most + 2 * engine.max_batch)
        whole, windowed = (kernel.replay(work, engine, fcfs, costs, each) for each in (setup, few))
        assert not differences(whole, windowed)

    same()


@pytest.mark.parametrize("rules", DRAWN)
@pytest.mark.parametrize("spec", ["fcfs", "srpt-work", "work-patient:patience_s=0.1", "mlfq", "vtc"])
def test_kernel_equals_twin_where_few_may_be_live(rules, spec):
    found, stopped = find(spec), []

    @drawn(DRAWN[rules])
    def same(scenario):
        ready = scenario.ready(found)
        few = (*ready[:-1], replace(ready[-1], live_most=7, wait_most=5))
        one, other = kernel.replay(*few), reference.replay(*few)
        assert not differences(one, other)
        crowd = (*ready[:-1], replace(ready[-1], live_most=4))
        one, other = kernel.replay(*crowd), reference.replay(*crowd)
        assert not differences(one, other)
        stopped.append(one.stopped == "crowded")
        assert one.stopped != "crowded" or np.count_nonzero(one.status == UNFINISHED) >= 4

    same()
    assert any(stopped)
