"""What the requests that finished say of predictions for others with prompts of about their length."""

from __future__ import annotations

import numpy as np
import pytest
from commands import lapsbench
from strategies import Scenario, constant, long_prompts_short_answers

from lapsbench.core import Engine
from lapsbench.policies.past import ALL, LIMITS, MOST, UNIT, Past, bins, learn, ratio
from lapsbench.policies.registry import find

ENGINES = (Engine(4, 0), Engine(4, 0, rules="vllm", on_preempt="recompute"))


def told(prompts, ratios):
    """Return what is known once such requests have finished."""
    past = Past()
    for prompt, length in zip(prompts, ratios, strict=True):
        past.learn(int(prompt), 100.0, int(100 * length))
    return past


def test_bins_are_a_quarter_of_an_octave_and_tell_the_shortest_prompts_apart():
    assert bins(np.array([1, 2, 3, 4, 5])).tolist() == [0, 1, 2, 3, 4]
    assert len(set(bins(np.arange(1024, 2048)).tolist())) == 4
    assert bins(np.array([2**31 - 1]))[0] == len(LIMITS) < ALL


def test_nothing_is_said_of_a_prompt_nobody_had():
    assert told([10] * 50, [2.0] * 50).ratio(5000) == 1.0


def test_what_all_have_in_common_is_no_difference():
    assert told([10] * 50 + [1000] * 50, [2.0] * 100).ratio(10) == 1.0


def test_what_may_be_chance_is_no_difference():
    draw = np.random.default_rng(1)
    past = told([10, 1000] * 200, draw.lognormal(0, 0.7, 400))
    assert past.ratio(10) == past.ratio(1000) == 1.0


def test_what_is_certain_is_believed_to_its_size():
    past = told([10] * 200 + [1000] * 200, [1.5] * 200 + [0.5] * 200)
    assert past.ratio(10) == pytest.approx(1.5, rel=0.05)
    assert past.ratio(1000) == pytest.approx(0.5, rel=0.05)


def test_the_compiled_rule_is_the_plain_one():
    draw = np.random.default_rng(2)
    prompts, lengths = draw.choice([3, 90, 700], 300), draw.lognormal(0, 0.4, 300)
    lengths[prompts == 700] *= 3
    plain, compiled = Past(), np.zeros(3 * (ALL + 1), np.int64)
    for prompt, length in zip(prompts.tolist(), lengths.tolist(), strict=True):
        output, each = max(int(100 * length), 1), int(bins(np.array(prompt)))
        plain.learn(prompt, 100.0, output)
        share = int(min(output / 100.0, MOST) * UNIT)
        learn(compiled, each, share)
        learn(compiled, ALL, share)
        for known in (3, 90, 700):
            assert plain.ratio(known) == ratio(compiled, int(bins(np.array(known))))
    assert plain.ratio(700) > 1.5


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.rules)
def test_kernel_equals_twin_where_prompts_say_something(engine):
    case = Scenario(long_prompts_short_answers(), engine, constant(0.5))
    found = find("least-work")
    assert case.unlike(found) == []


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.rules)
def test_least_work_learns_that_long_prompts_have_short_answers(engine):
    case = Scenario(long_prompts_short_answers(), engine, constant(0.5))
    mean_s = {
        name: (case.replay(find(name)).finished_s - case.work.arrival_s).mean() for name in ("least-work", "srpt-work")
    }
    assert mean_s["least-work"] < 0.9 * mean_s["srpt-work"]


def test_a_user_sees_what_it_takes(tmp_path):
    done = lapsbench("policies least-work", tmp_path).fine()
    assert "lengths of finished requests" in " ".join(done.out.split())
