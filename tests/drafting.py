"""Engines whose drafts vary: schedules, built-in controllers and some of a third party, for property tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from lapsbench.core import UNLIMITED
from lapsbench.drafts.registry import builtin
from lapsbench.schedules import BY_BATCH, RECORDED, Range, parsed, written

THIRD_PARTY = Path(__file__).with_name("controllers.py")
CONTROLLERS = [
    *(name for name in builtin() if name not in (BY_BATCH, RECORDED)),
    "goodput:prior=0.1,weight=1",
    "ema:interval=1,warmup=0,alpha=0.9",
    "per-request:weight=1",
    f"{THIRD_PARTY}:restless",
    f"{THIRD_PARTY}:by_its_own",
]


@st.composite
def schedules(draw, most_batch=9, *, bands=True) -> str:
    """Ranges with and without gaps, bands and ends."""
    ranges, first = [], 1
    for _ in range(draw(st.integers(1, 4))):
        last = first + draw(st.integers(0, 3))
        edges = sorted({0, *(draw(st.lists(st.sampled_from([5, 40, 70, 150]), max_size=2)) if bands else ())})
        ends = [edge - 1 for edge in edges[1:]] + [draw(st.sampled_from([UNLIMITED, 400])) if bands else UNLIMITED]
        for least, most in zip(edges, ends, strict=True):
            ranges.append(Range(first, last, draw(st.integers(0, 8)), least, most))
        first = last + draw(st.integers(1, 3))
        if first > most_batch:
            break
    return written(ranges)


def by_batch(scenario, text: str):
    """Return the scenario under a schedule."""
    most = max(each.drafts for each in parsed(text))
    return replace(scenario, engine=replace(scenario.engine, drafts=BY_BATCH, schedule=text, draft_tokens=most))


def controlled(scenario, spec: str):
    """Return the scenario under a controller; its drafts are the ceiling."""
    return replace(scenario, engine=replace(scenario.engine, drafts=spec))


@st.composite
def scheduled(draw, scenarios, *, bands=True):
    """A scenario under a schedule."""
    return by_batch(draw(scenarios), draw(schedules(bands=bands)))


@st.composite
def recorded(draw, drawn, least=0):
    """Draw a scenario whose drafter found some, or none; `least` 8: always as many as there may be."""
    scenario = draw(drawn)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    drafted = rng.integers(least, 9, len(scenario.work.accept_runs)).astype(np.uint8)
    drafted[rng.random(len(drafted)) < 0.4] *= least > 0
    work, engine = replace(scenario.work, drafted=drafted), replace(scenario.engine, drafts=RECORDED)
    return replace(scenario, work=work, engine=engine)
