"""kernel == twin: every field of the outcome, bit for bit, whatever the policy, the engine and the requests."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, seed, settings
from specimens import THIRD_PARTY, VARIANTS, counting
from strategies import Scenario, differences, engines, scenarios

from lapsbench.core import FINISHED, Engine, Workload
from lapsbench.policies.predictors import length_class
from lapsbench.policies.registry import builtin, find
from lapsbench.store.profile import open_profile
from lapsbench.store.published import NAME

SPECS = [*builtin(), *VARIANTS]
EXAMPLES = 15


def check(found, examples, drawn=scenarios()):  # noqa: B008 - strategies are immutable
    """Replay drawn scenarios twice. Each policy has its own seed, so together they see many different scenarios."""

    @seed(zlib.crc32(found.name.encode()) + len(str(dict(found.parameters))))
    @settings(deadline=None, derandomize=True, database=None, max_examples=examples)
    @given(drawn)
    def kernel_equals_twin(scenario):
        assert not scenario.unlike(found)

    kernel_equals_twin()


@pytest.mark.parametrize("spec", SPECS)
def test_kernel_equals_twin_for_a_built_in_policy(spec):
    check(find(spec), EXAMPLES)


@pytest.mark.parametrize("found", THIRD_PARTY, ids=lambda found: found.name)
def test_kernel_equals_twin_for_a_third_party_policy(found):
    check(found, EXAMPLES)


@pytest.mark.parametrize("found", [find("las"), find(VARIANTS[0]), find(VARIANTS[1]), counting], ids=lambda f: f.name)
def test_kernel_equals_twin_where_many_idle_jobs_hold_memory(found):
    # one or two places and room for half a dozen jobs that take turns: who is evicted first matters here
    few_places = engines(most_batch=2, most_drafts=2, kv_tokens=(200, 420, 900), on_preempt=("keep",))
    check(found, 2 * EXAMPLES, scenarios(engine=few_places))


def crowd(n, seed=7):
    """Requests at a little more than what sixteen places serve, lengths log-normal, acceptance from 20 recordings."""
    rng = np.random.default_rng(seed)
    output = np.ceil(rng.lognormal(3, 1, n)).astype(np.int32)
    predicted = np.maximum(1.0, output * rng.lognormal(0, 0.5, n))
    lengths = rng.integers(1, 80, 20)
    recording = rng.integers(0, 20, n)
    return Workload(
        arrival_s=rng.exponential(0.007, n).cumsum(),
        prompt_tokens=np.ceil(rng.lognormal(4, 1, n)).astype(np.int32),
        output_tokens=output,
        predicted_tokens=predicted,
        predicted_class=length_class(predicted),
        client=rng.integers(0, 5, n).astype(np.int32),
        clients=5,
        recording_start=(np.cumsum(lengths) - lengths)[recording].astype(np.int64),
        recording_tokens=lengths[recording].astype(np.int32),
        recording_shift=(rng.integers(0, 1000, n) % lengths[recording]).astype(np.int32),
        accept_runs=rng.integers(0, 5, lengths.sum()).astype(np.uint8),
    )


@pytest.fixture(scope="module")
def shipped():
    return open_profile(NAME)


@pytest.mark.parametrize(
    ("spec", "engine"),
    [
        ("fcfs", Engine(16, 3)),
        ("srpt", Engine(16, 3, prefill_budget=256)),
        ("laps-sd", Engine(16, 3, kv_tokens=3000)),
        ("mlfq", Engine(16, 3, on_preempt="swap")),
        ("ltr:starvation_steps=30", Engine(16, 2, kv_tokens=3000, on_preempt="recompute")),
        ("vtc", Engine(16, 5, prefill_budget=512)),
    ],
)
def test_kernel_equals_twin_on_two_thousand_requests(spec, engine, shipped):
    scenario, found = Scenario(crowd(2000), engine, shipped), find(spec)
    outcome = scenario.replay(found)
    assert not differences(outcome, scenario.twin(found))
    assert np.mean(outcome.status == FINISHED) > 0.95
