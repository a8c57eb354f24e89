"""Prices of steps in which some do a round and others prefill: the profile's `mixed` rows, laid out for one engine.

Whole numbers of jobs become rows; the three other sizes keep their measured knots. A ragged grid is filled along the
context of those that do a round, then along the chunks' context, the chunks' tokens, the verified tokens and the batch,
each by the rule of `sim/cost.py`, so a measured point costs what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.sim.interpolation import along, distinct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.core import Costs, Engine, Floats, Longs


@dataclass(frozen=True, slots=True)
class MixedCosts:
    """What the target's pass over rounds and chunks takes.

    Attributes:
        tokens, cached, context: float64 [Q], [P], [C], knots: new tokens of all chunks, their mean cached context,
            mean context of those that do a round.
        time_s: float64 [max_batch + 1, D, Q, P, C], seconds; D is 1, or where the drafts vary one more than the most.
        limit: float64 [max_batch + 1, 4], the largest verified tokens, new tokens and contexts measured there; -1
            beyond the batches.
    """

    tokens: Floats
    cached: Floats
    context: Floats
    time_s: Floats
    limit: Floats


def mixed_costs(costs: Costs, engine: Engine) -> MixedCosts | None:
    """Lay the `mixed` rows out for an engine; None where there are none."""
    if costs.verify_tokens is None or costs.chunk_context_tokens is None or not costs.has("mixed"):
        return None
    mine = costs.component == "mixed"
    batch = costs.batch_size[mine].astype(np.int64)
    others = (costs.verify_tokens, costs.query_tokens, costs.chunk_context_tokens, costs.context_tokens)
    sizes = [size[mine].astype(np.int64) for size in others]
    k, tops = engine.draft_tokens, np.arange(engine.max_batch + 1, dtype=np.float64)
    verify = np.arange(1, k + 2, dtype=np.float64) if engine.drafts else np.array([k + 1.0])
    tokens, cached, context = (distinct(size).astype(np.float64) for size in sizes[1:])
    time_s = filled([batch, *sizes], costs.time_s[mine], [tops, verify, tokens, cached, context])
    return MixedCosts(tokens, cached, context, time_s, _limits(batch, sizes, tops))


def filled(sizes: Sequence[Longs], time_s: Floats, wanted: Sequence[Floats]) -> Floats:
    """Interpolate measured points onto a full grid, the last axis first."""
    own = distinct(sizes[0])
    lines = []
    for size in own:
        here = sizes[0] == size
        rest = [each[here] for each in sizes[1:]]
        lines.append(filled(rest, time_s[here], wanted[1:]) if rest else time_s[here][0])
    return along(own.astype(np.float64), np.array(lines), wanted[0])


def _limits(batch: Longs, sizes: Sequence[Longs], tops: Floats) -> Floats:
    """Return the largest sizes measured, of the two batches around; an axis of one point has no end."""
    batches = distinct(batch)
    most = [[size[batch == each].max() if len(distinct(size)) > 1 else np.inf for size in sizes] for each in batches]
    left = np.clip(np.searchsorted(batches, tops, side="right") - 1, 0, None)
    right = np.clip(np.searchsorted(batches, tops, side="left"), None, len(batches) - 1)
    limit = np.minimum(np.array(most, np.float64)[left], np.array(most, np.float64)[right])
    if len(batches) > 1:
        limit[tops > batches[-1]] = -1.0
    return np.asarray(limit)
