"""The compiled kernel is vLLM's rules to the last bit, as the reference says them; `make vllm` holds that to vLLM."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, seed, settings
from specimens import THIRD_PARTY, VARIANTS
from vllm_cases import Ask, cases

from lapsbench.policies.registry import builtin, find

SPECS = [*builtin(), *VARIANTS]
BOTH = ("recompute", "keep")
EXAMPLES = 8


def check(found, scheduling, examples=EXAMPLES):
    """Replay drawn scenarios twice. Each policy has its own seed, so together they see many different scenarios."""

    @seed(zlib.crc32(f"{found.name} {dict(found.parameters)} {scheduling}".encode()))
    @settings(deadline=None, derandomize=True, database=None, max_examples=examples)
    @given(cases(Ask(scheduling=(scheduling,), on_preempt=BOTH)))
    def kernel_equals_twin(scenario):
        assert not scenario.unlike(found), scenario.engine

    kernel_equals_twin()


@pytest.mark.parametrize("scheduling", ["sync", "async"])
@pytest.mark.parametrize("spec", SPECS)
def test_kernel_equals_twin_for_a_built_in_policy(spec, scheduling):
    check(find(spec), scheduling)


@pytest.mark.parametrize("found", THIRD_PARTY, ids=lambda found: found.name)
def test_kernel_equals_twin_for_a_third_party_policy(found):
    check(found, "sync")


@pytest.mark.parametrize("name", ["fcfs", "priority", "srpt"])
def test_kernel_equals_twin_over_many_engines(name):
    check(find(name), "sync", 60)
