"""Step prices from a profile: the measured grid, collapsed once per run to what a step looks up.

The query axis is fixed by k and the batch axis is whole numbers, so each component of a step becomes one table: a row
per batch size, a knot per measured context. Prefill keeps its two axes. Rule (docs/model.md): one grid point is
constant; between points linear; below the first, the first; beyond the last, linear continuation. A look-up is never
below zero: that is cut after interpolating, in `sim/prices.py`.
All components share the union of their knots, which changes nothing: each is linear between its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.errors import LapsbenchError
from lapsbench.schedules import BY_BATCH, parsed
from lapsbench.sim.interpolation import along, distinct
from lapsbench.sim.mixed import MixedCosts, mixed_costs

if TYPE_CHECKING:
    from lapsbench.core import Costs, Engine, Floats, Longs, Profile

OVERHEAD, DRAFT, VERIFY, SWAP_OUT, SWAP_IN = range(5)
"""Rows of `StepCosts.step_s`. Swaps are priced one sequence at a time, at batch 1."""
BY_DRAFTS = 5
"""Where drafts may differ from step to step, here follow DRAFT and VERIFY of 0 drafts, of 1, and so on."""
PREFILL, DRAFT_PREFILL = range(2)
"""Rows of `StepCosts.chunk_s`."""


@dataclass(frozen=True, slots=True)
class StepCosts:
    """All prices of one engine. Components the profile lacks are zero everywhere.

    Attributes:
        context: float64 [K], knots in cached tokens.
        step_s: float64 [5, max_batch + 1, K], seconds; with 2 (draft_tokens + 1) rows more where the drafts vary.
        step_limit: float64 [rows of step_s, max_batch + 1], the largest context measured there; -1 beyond the batch
            or query grid.
        query, cached: float64 [Q], [C], knots of prefill in new and in cached tokens.
        chunk_s: float64 [2, Q, C], seconds.
        chunk_limit: float64 [2, 2], the largest query and the largest cached size measured.
        mixed: of steps with rounds and chunks, where the profile has them.
    """

    context: Floats
    step_s: Floats
    step_limit: Floats
    query: Floats
    cached: Floats
    chunk_s: Floats
    chunk_limit: Floats
    mixed: MixedCosts | None = None


@dataclass(frozen=True, slots=True)
class _Rows:
    batch: Longs
    query: Longs
    context: Longs
    time_s: Floats


def step_costs(profile: Profile, engine: Engine) -> StepCosts:
    """Collapse the profile's grid for one engine.

    Raises:
        LapsbenchError: the profile lacks a component this engine needs.
    """
    costs, k = profile.costs, engine.draft_tokens
    _require(profile, k, fewest_drafts(engine))
    drafting = k > 0
    parts: list[tuple[_Rows | None, int | None]] = [
        (_rows(costs, "overhead"), None),
        (_rows(costs, "draft") if drafting else None, k),
        (_rows(costs, "verify"), k + 1),
        (_rows(costs, "swap_out"), None),
        (_rows(costs, "swap_in"), None),
    ]
    for drafts in range(k + 1) if engine.drafts else ():
        parts += [(_rows(costs, "draft") if drafts else None, drafts), (_rows(costs, "verify"), drafts + 1)]
    context = _knots([rows.context for rows, _ in parts if rows is not None])
    tables = [_step_table(rows, query, engine.max_batch, context) for rows, query in parts]
    chunks = [_rows(costs, "prefill"), _rows(costs, "draft_prefill") if drafting else None]
    query = _knots([rows.query for rows in chunks if rows is not None])
    cached = _knots([rows.context for rows in chunks if rows is not None])
    prefills = [_chunk_table(rows, query, cached) for rows in chunks]
    return StepCosts(
        context=context,
        step_s=np.array([table for table, _ in tables]),
        step_limit=np.array([limit for _, limit in tables]),
        query=query,
        cached=cached,
        chunk_s=np.array([table for table, _ in prefills]),
        chunk_limit=np.array([limit for _, limit in prefills]),
        mixed=mixed_costs(costs, engine),
    )


def round_s(costs: StepCosts, batch: int | slice, drafts: int) -> Floats:
    """Return what `batch` rounds of so many drafts take together, float64 [.., K]: overhead, drafting, verification."""
    table = costs.step_s
    overhead = np.maximum(table[OVERHEAD, batch, :1], 0.0)  # no knot lies below a context of 0
    drafting = table[BY_DRAFTS + 2 * drafts, batch] if drafts > 0 else 0.0
    return np.asarray(overhead + drafting + table[BY_DRAFTS + 2 * drafts + 1, batch])


def fewest_drafts(engine: Engine) -> int:
    """Return the least drafts a step may have: a controller may choose none."""
    if engine.drafts == BY_BATCH:
        return min(each.drafts for each in parsed(engine.schedule))
    return 0 if engine.drafts else engine.draft_tokens


def _require(profile: Profile, k: int, fewest: int) -> None:
    costs = profile.costs
    if k > 0 and not costs.has("draft"):
        raise LapsbenchError(
            f"has no 'draft' costs, so nothing says what drafting {k} tokens takes",
            where=f"profile {profile.name}",
            hint="--draft-tokens 0, or a profile measured with a draft model",
        )
    if fewest == 0 and not np.any((costs.component == "verify") & (costs.query_tokens == 1)):
        raise LapsbenchError(
            "has no 'verify' cost at query_tokens 1, which plain decoding (--draft-tokens 0) needs",
            where=f"profile {profile.name}",
            hint="--draft-tokens 1 or more" if k == 0 else "a schedule with 1 or more everywhere",
        )


def _knots(sizes: list[Longs]) -> Floats:
    return distinct(np.concatenate(sizes)).astype(np.float64) if sizes else np.zeros(1)


def _rows(costs: Costs, component: str) -> _Rows | None:
    mine = costs.component == component
    if not np.any(mine):
        return None
    sizes = (costs.batch_size[mine], costs.query_tokens[mine], costs.context_tokens[mine])
    batch, query, context = (size.astype(np.int64) for size in sizes)
    return _Rows(batch, query, context, costs.time_s[mine])


def _step_table(rows: _Rows | None, query: int | None, top: int, context: Floats) -> tuple[Floats, Floats]:
    """Collapse one component to [batch, context]; a ragged grid is filled along context, then query, then batch."""
    if rows is None:
        return np.zeros((top + 1, len(context))), np.full(top + 1, np.inf)
    batches = distinct(rows.batch)
    planes = [_at_query(rows, batch, query, context) for batch in batches]
    sizes = np.arange(top + 1, dtype=np.float64)
    time_s = along(batches.astype(np.float64), np.array([plane for plane, _ in planes]), sizes)
    measured = np.array([limit for _, limit in planes])
    left = np.clip(np.searchsorted(batches, sizes, side="right") - 1, 0, None)
    right = np.clip(np.searchsorted(batches, sizes, side="left"), None, len(batches) - 1)
    limit = np.minimum(measured[left], measured[right])
    if len(batches) > 1:
        limit[sizes > batches[-1]] = -1.0
    return time_s, limit


def _at_query(rows: _Rows, batch: int, query: int | None, context: Floats) -> tuple[Floats, float]:
    """Return the times over `context` at one batch and query size, and the largest context measured there."""
    mine = rows.batch == batch
    queries = distinct(rows.query[mine])
    lines, limits = [], []
    for size in queries:
        here = mine & (rows.query == size)
        order = np.argsort(rows.context[here])
        knots = rows.context[here][order].astype(np.float64)
        lines.append(along(knots, rows.time_s[here][order], context))
        limits.append(float(knots[-1]) if len(knots) > 1 else np.inf)
    wanted = float(queries[0] if query is None else query)
    times = along(queries.astype(np.float64), np.array(lines), np.array([wanted]))[0]
    beyond = len(queries) > 1 and wanted > queries[-1]
    return times, -1.0 if beyond else min(limits)


def _chunk_table(rows: _Rows | None, query: Floats, cached: Floats) -> tuple[Floats, Floats]:
    if rows is None:
        return np.zeros((len(query), len(cached))), np.array([np.inf, np.inf])
    batch = int(rows.batch.min())  # prefill is priced one sequence at a time
    own = distinct(rows.query[rows.batch == batch])
    planes = [_at_query(rows, batch, int(size), cached) for size in own]
    table = along(own.astype(np.float64), np.array([plane for plane, _ in planes]), query)
    limit = [float(own[-1]) if len(own) > 1 else np.inf, min(limit for _, limit in planes)]
    return table, np.array(limit)
