"""Step prices against the contract's rule worked out one number at a time, and the shipped profile against its fit."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import CHUNK, STEP, Scenario, constant, grid, profiles, workload

from lapsbench.core import Engine, Profile
from lapsbench.errors import LapsbenchError
from lapsbench.policies.registry import find
from lapsbench.sim import reference
from lapsbench.sim.cost import DRAFT, OVERHEAD, PREFILL, SWAP_IN, SWAP_OUT, VERIFY, step_costs
from lapsbench.sim.interpolation import along
from lapsbench.store.profile import open_profile
from lapsbench.store.published import DRAFTING, NAME, TARGET_PASS
from lapsbench.store.published import OVERHEAD as STEP_OVERHEAD

few = settings(deadline=None, derandomize=True, database=None, max_examples=60)
CLOSE = {"rel": 1e-12, "abs": 1e-15}
ROWS = {"overhead": OVERHEAD, "draft": DRAFT, "verify": VERIFY, "swap_out": SWAP_OUT, "swap_in": SWAP_IN}


# the rule, one number at a time ------------------------------------------------------------------------------------


def rule(points, x):
    """One axis of docs/model.md: `points` is {knot: seconds}."""
    knots = sorted(points)
    if len(knots) == 1 or x <= knots[0]:
        return points[knots[0]]
    right = next((knot for knot in knots[1:] if x <= knot), knots[-1])
    left = knots[knots.index(right) - 1]
    return points[left] + (points[right] - points[left]) / (right - left) * (x - left)


def price(costs, component, batch, query, context):
    """One look-up: along the context, then the query, then the batch; each axis as far as it was measured there."""
    table = {}
    for name, b, q, c, time_s in zip(
        costs.component, costs.batch_size, costs.query_tokens, costs.context_tokens, costs.time_s, strict=True
    ):
        if name == component:
            table.setdefault(int(b), {}).setdefault(int(q), {})[int(c)] = float(time_s)
    if not table:
        return 0.0
    by_batch = {}
    for b, queries in table.items():
        at_query = {q: rule(contexts, context) for q, contexts in queries.items()}
        by_batch[b] = rule(at_query, min(at_query) if query is None else query)
    return rule(by_batch, batch)


def looked_up(tables, row, batch, context):
    return max(0.0, reference.interpolate(tables.context, tables.step_s[row, batch], context))


@few
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=6, unique=True),
    st.lists(st.floats(0, 1), min_size=6, max_size=6),
    st.lists(st.floats(-10, 90), min_size=1, max_size=5),
)
def test_along_is_the_rule_on_any_axis(knots, times, places):
    knots = sorted(knots)
    points = dict(zip(knots, times, strict=False))
    found = along(np.array(knots, float), np.array(times[: len(knots)]), np.array(places))
    assert found.tolist() == pytest.approx([rule(points, x) for x in places], rel=1e-12, abs=1e-12)


@few
@given(
    profiles(complete=True), st.integers(0, 8), st.integers(1, 12), st.one_of(st.integers(0, 700), st.floats(0, 700))
)
def test_step_prices_follow_the_rule_on_ragged_grids(profile, k, batch, context):
    tables = step_costs(profile, Engine(max_batch=12, draft_tokens=k))
    for name in STEP:
        size = 1 if name.startswith("swap") else batch
        query = {"verify": k + 1, "draft": k}.get(name)
        expected = price(profile.costs, name, size, query, context) if name != "draft" or k > 0 else 0.0
        if expected > 0 and np.any(tables.step_s[ROWS[name], size] == 0):
            continue  # see test_a_line_that_falls_below_zero_elsewhere_is_not_bent
        assert looked_up(tables, ROWS[name], size, context) == pytest.approx(max(0.0, expected), **CLOSE), name


@few
@given(profiles(complete=True), st.integers(1, 700), st.integers(0, 700))
def test_prefill_prices_follow_the_rule_on_ragged_grids(profile, tokens, cached):
    tables = step_costs(profile, Engine(draft_tokens=3))
    for row, name in enumerate(CHUNK):
        expected = max(0.0, price(profile.costs, name, 1, tokens, cached))
        assert reference.chunk_time(tables, row, tokens, cached) == pytest.approx(expected, **CLOSE), name


# one sentence of the rule each -------------------------------------------------------------------------------------


def verify_s(points, batch=1, context=0.0, k=0):
    """Price a verify pass on a grid of {(batch, query, context): seconds}."""
    rows = [("verify", *point, time_s) for point, time_s in points.items()] + [("draft", 1, 1, 0, 1.0)]
    tables = step_costs(Profile("p", grid(rows), None), Engine(max_batch=64, draft_tokens=k))
    return looked_up(tables, VERIFY, batch, context)


def test_an_axis_with_one_point_is_constant():
    assert [verify_s({(4, 1, 100): 0.5}, batch, context) for batch, context in [(1, 0), (4, 100), (64, 9e9)]] == [
        0.5
    ] * 3


def test_below_the_first_point_is_the_first():
    assert verify_s({(1, 1, 100): 2.0, (1, 1, 200): 3.0}, context=10) == 2.0


def test_between_two_points_is_linear():
    assert verify_s({(1, 1, 100): 2.0, (1, 1, 200): 3.0}, context=150) == 2.5
    assert verify_s({(1, 1, 0): 2.0, (9, 1, 0): 4.0}, batch=5) == 3.0
    assert verify_s({(1, 1, 0): 2.0, (1, 5, 0): 4.0}, k=2) == 3.0


def test_beyond_the_last_point_the_last_line_goes_on():
    assert verify_s({(1, 1, 0): 2.0, (1, 1, 100): 2.0, (1, 1, 200): 3.0}, context=400) == 5.0


def test_no_price_is_ever_below_zero():
    assert verify_s({(1, 1, 0): 2.0, (1, 1, 100): 1.0}, context=1000) == 0.0


def test_a_line_that_falls_below_zero_elsewhere_is_not_bent():
    points = {(1, 1, 0): 3.0, (1, 1, 8): 1.0, (2, 1, 0): 1.0, (2, 1, 8): 3.0}
    assert verify_s(points, batch=3, context=4) == 2.0  # from -1 at no context to 5 at 8 tokens


# counting what was not measured ------------------------------------------------------------------------------------


def lookups(points, *, prompt=1, output=3, batch=1, requests=1):
    rows = [("verify", *point, 0.1) for point in points]
    work = workload([0.0] * requests, [output] * requests, prompt_tokens=prompt)
    outcome = Scenario(work, Engine(batch, 0), Profile("p", grid(rows), None)).replay(find("fcfs"))
    return outcome.lookups, outcome.lookups_beyond


def test_every_component_of_a_step_is_one_lookup():
    # two requests, one at a time: an overhead and a chunk, then twice an overhead and a verify
    assert lookups([(1, 1, 0)], requests=2) == (2 * 6, 0)


def test_a_lookup_beyond_the_measured_context_is_counted():
    assert lookups([(1, 1, 0), (1, 1, 10)], prompt=9) == (6, 1)  # contexts 10 and 11


def test_a_lookup_beyond_the_measured_batch_is_counted():
    assert lookups([(1, 1, 0), (2, 1, 0)], batch=3, requests=3) == (2 * 2 + 4, 2)


def test_a_lookup_beyond_the_measured_prefill_is_counted():
    profile = Profile("p", grid([("verify", 1, 1, 0, 0.1), ("prefill", 1, 1, 0, 0.1), ("prefill", 1, 8, 0, 0.2)]), None)
    for prompt, beyond in ((8, 0), (9, 1)):
        outcome = Scenario(workload([0.0], [1], prompt_tokens=prompt), Engine(1, 0), profile).replay(find("fcfs"))
        assert outcome.lookups_beyond == beyond


def test_an_axis_of_one_point_is_constant_and_nothing_is_beyond_it():
    assert lookups([(1, 1, 5)], prompt=100, batch=3, requests=3)[1] == 0


# what a profile must have ------------------------------------------------------------------------------------------


def test_drafting_needs_draft_costs():
    with pytest.raises(LapsbenchError, match="no 'draft' costs"):
        step_costs(constant(), Engine(draft_tokens=3))


def test_plain_decoding_needs_verify_costs_of_one_token():
    profile = Profile("p", grid([("verify", 1, 4, 0, 0.1), ("draft", 1, 3, 0, 0.1)]), None)
    with pytest.raises(LapsbenchError, match="query_tokens 1"):
        step_costs(profile, Engine(draft_tokens=0))
    assert step_costs(profile, Engine(draft_tokens=3)).step_s[VERIFY].max() == 0.1


def test_components_a_profile_lacks_cost_nothing():
    tables = step_costs(Profile("p", grid([("verify", 1, 1, 0, 0.1)]), None), Engine(draft_tokens=0))
    assert not np.any(tables.step_s[[OVERHEAD, DRAFT, SWAP_OUT, SWAP_IN]])
    assert not np.any(tables.chunk_s)


# the shipped profile -----------------------------------------------------------------------------------------------


@few
@given(st.integers(1, 256), st.integers(0, 8), st.floats(0, 40_000), st.integers(1, 40_000))
def test_the_shipped_profile_is_its_published_formula_at_every_point(batch, k, context, tokens):
    tables = step_costs(shipped(), Engine(max_batch=256, draft_tokens=k))

    def formula(fit, query):
        return fit.fixed_s + fit.per_token_s * batch * query + fit.per_kv_token_s * batch * context

    assert looked_up(tables, VERIFY, batch, context) == pytest.approx(formula(TARGET_PASS, k + 1), rel=1e-9)
    if k > 0:
        assert looked_up(tables, DRAFT, batch, context) == pytest.approx(formula(DRAFTING, k), rel=1e-9)
    assert looked_up(tables, OVERHEAD, batch, 0) == pytest.approx(STEP_OVERHEAD.fixed_s, rel=1e-12)
    cached = int(context)
    expected = TARGET_PASS.fixed_s + TARGET_PASS.per_token_s * tokens + TARGET_PASS.per_kv_token_s * cached
    assert reference.chunk_time(tables, PREFILL, tokens, cached) == pytest.approx(expected, rel=1e-9)


@cache
def shipped():
    return open_profile(NAME)
