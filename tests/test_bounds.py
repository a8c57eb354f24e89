"""Oracles bound what they say they bound: whoever is listed is replayed against them, and must not beat them there.

What was found on public recordings, in small: real acceptance is in no repository, so the shipped bank stands in.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lapsbench.core import Engine
from lapsbench.metrics.intervals import Sums, ratio_interval
from lapsbench.policies.predictors import parse_predictor
from lapsbench.policies.registry import builtin, find
from lapsbench.sim import kernel, prepare
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import step_costs
from lapsbench.sim.setup import set_up
from lapsbench.store.profile import open_profile
from lapsbench.store.published import NAME
from lapsbench.traces import open_trace, scale_to_rate
from lapsbench.traces.shape import cut

SEEDS, REQUESTS = 3, 1000
CASES = [
    (trace, predict, batch, load)
    for trace in ("chat", "code", "no prompts")
    for predict, load in (("oracle", 0.7), ("oracle", 0.9), ("noisy:sigma=0.5", 0.9))
    for batch in (1, 8, 64)
]
LEAST = 0.002
"""What beats a bound must beat it by: a round's time depends on the context, which no rank counts."""
NO_RIVALS = ("vtc", "priority")
"""They need a trace that names clients, or priorities."""


def rivals():
    """Return every scheduler that is listed."""
    listed = [name for name, each in builtin().items() if not each.is_oracle and name not in NO_RIVALS]
    return [f"{name}:patience_s=5" if name == "work-patient" else name for name in listed]


def bounds(oracle, trace, batch):
    """Say whether an oracle claims to bound mean JCT here; preempting is free in all cases."""
    claim = find(oracle).bounds
    if "where prefill takes no time" in claim and trace != "no prompts":
        return False
    return ("at batch 1" in claim and batch == 1) or "in batches the best known" in claim


@cache
def learnt_of(predict, batch):
    """Return the shipped profile, its prices, and what policies learn."""
    profile, engine = open_profile(NAME), Engine(batch, 3)
    costs = step_costs(profile, engine)
    return profile, costs, prepare.calibration(profile, engine, parse_predictor(predict), costs, None)


@cache
def mean_jct_s(trace, predict, batch, load):
    """Return mean JCT by scheduler, a value a seed."""
    found = open_trace("chat" if trace == "no prompts" else trace)
    found = cut(found, limit=REQUESTS)
    if trace == "no prompts":
        found = replace(found, prompt_tokens=np.ones_like(found.prompt_tokens))
    engine, predictor = Engine(batch, 3), parse_predictor(predict)
    profile, costs, learnt = learnt_of(predict, batch)
    means = {name: np.zeros(SEEDS) for name in (*(name for name in builtin() if find(name).is_oracle), *rivals())}
    for seed in range(SEEDS):
        work = prepare.workload(found, profile, engine, predictor, seed)
        rate = load * prepare.at_capacity(work, engine, costs)
        work = replace(work, arrival_s=scale_to_rate(found, rate).arrival_s)
        alone = solo(work, engine, costs)
        for name, mean_s in means.items():
            ready, setup = set_up(work, engine, find(name), alone, learnt)
            mean_s[seed] = np.mean(kernel.replay(ready, engine, find(name), costs, setup).finished_s - work.arrival_s)
    return means


@pytest.mark.parametrize(("trace", "predict", "batch", "load"), CASES)
def test_nobody_beats_an_oracle_where_it_says_it_bounds(trace, predict, batch, load):
    means, ones = mean_jct_s(trace, predict, batch, load), np.ones(SEEDS)
    for oracle in (name for name in builtin() if find(name).is_oracle and bounds(name, trace, batch)):
        for name in rivals():
            found = ratio_interval(Sums(means[name], ones), Sums(means[oracle], ones), serial=False)
            assert found.high is None or found.high > 1 or found.value > 1 - LEAST, f"{name} beats {oracle}: {found}"


def test_where_it_claims_nothing_an_oracle_is_beaten():
    means = mean_jct_s("chat", "oracle", 64, 0.9)
    assert np.all(means["srpt-work"] < 0.97 * means["oracle-srpt-rounds"])
    means = mean_jct_s("code", "oracle", 1, 0.9)  # long prompts, short answers
    assert np.all(means["srpt-work"] < means["oracle-srpt-rounds"])


def test_every_oracle_but_one_says_where_it_bounds():
    silent = {name for name, each in builtin().items() if each.is_oracle and not each.bounds}
    assert silent == {"oracle-own-mean"}
    assert not any(each.bounds for each in builtin().values() if not each.is_oracle)
