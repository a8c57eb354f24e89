"""Compiled look-ups in the price tables of `sim/cost.py`. Same arithmetic, in the same order, as the twin's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.policies.pointers import floats
from lapsbench.sim.jit import inlined, jit

if TYPE_CHECKING:
    from lapsbench.core import Floats


@inlined
def line(knots: Floats, size: int, values: Floats, first: int, x: float) -> float:
    """Interpolate values[first:first + size] over `knots` at x: constant below the first, continued past the last."""
    if size == 1 or x <= knots[0]:
        return values[first]
    left = size - 2
    while left > 0 and knots[left] > x:  # a scan: grids have a dozen knots
        left -= 1
    fraction = (x - knots[left]) / (knots[left + 1] - knots[left])
    below = values[first + left]
    return below + fraction * (values[first + left + 1] - below)


@inlined
def step_time(sim: Any, component: int, batch: int, context: float) -> float:
    """Price one component of a step, at least zero."""
    row = component * (sim.max_batch + 1) + batch
    return max(0.0, line(floats(sim.context_at), sim.contexts, floats(sim.step_s_at), row * sim.contexts, context))


@jit
def chunk_time(sim: Any, component: int, tokens: int, cached: int) -> float:
    """Price a prefill chunk: along cached tokens, then along new tokens; at least zero."""
    knots, size, x = floats(sim.query_at), sim.queries, float(tokens)
    times, context = floats(sim.chunk_s_at), floats(sim.cached_at)
    first = component * size * sim.cacheds
    if size == 1 or x <= knots[0]:
        return max(0.0, line(context, sim.cacheds, times, first, float(cached)))
    left = size - 2
    while left > 0 and knots[left] > x:
        left -= 1
    below = line(context, sim.cacheds, times, first + left * sim.cacheds, float(cached))
    above = line(context, sim.cacheds, times, first + (left + 1) * sim.cacheds, float(cached))
    fraction = (x - knots[left]) / (knots[left + 1] - knots[left])
    return max(0.0, below + fraction * (above - below))


@inlined
def step_price(sim: Any, component: int, batch: int, context: float) -> float:
    """Look a component up, and count whether that was beyond the measured grid."""
    sim.lookups += 1
    if context > floats(sim.step_limit_at)[component * (sim.max_batch + 1) + batch]:
        sim.lookups_beyond += 1
    return step_time(sim, component, batch, context)


@jit
def chunk_price(sim: Any, component: int, tokens: int, cached: int, shared: bool) -> float:
    """Look a prefill chunk up; one that shares its pass over the weights pays only what it adds."""
    sim.lookups += 1
    limit = floats(sim.chunk_limit_at)
    if tokens > limit[2 * component] or cached > limit[2 * component + 1]:
        sim.lookups_beyond += 1
    full = chunk_time(sim, component, tokens, cached)
    return max(0.0, full - chunk_time(sim, component, 1, 0)) if shared else full


@jit
def mixed_price(sim: Any, batch: int, mean: float, context: float) -> float:
    """Price rounds and chunks of a step together; between whole numbers of drafts on a line."""
    whole = np.int64(mean)
    below = mixed_look_up(sim, batch, whole, context)
    if mean == whole:
        return below
    above = mixed_look_up(sim, batch, whole + 1, context)
    return below + (mean - whole) * (above - below)


@jit
def mixed_look_up(sim: Any, batch: int, drafts: int, context: float) -> float:
    """Look rounds and chunks up, and count whether that was beyond the measured grid."""
    tokens, cached = float(sim.chunks_tokens), sim.chunks_cached / sim.chunks_tokens
    limit, row = floats(sim.mixed_limit_at), 4 * batch
    sim.lookups += 1
    if drafts + 1 > limit[row] or tokens > limit[row + 1] or cached > limit[row + 2] or context > limit[row + 3]:
        sim.lookups_beyond += 1
    knots, size, stride = floats(sim.mixed_tokens_at), sim.mixed_tokens, sim.mixed_cacheds * sim.mixed_contexts
    first = (batch * sim.mixed_kinds + (drafts if sim.varies else 0)) * size * stride
    if size == 1 or tokens <= knots[0]:
        return max(0.0, over_cached(sim, first, cached, context))
    left = size - 2
    while left > 0 and knots[left] > tokens:
        left -= 1
    below = over_cached(sim, first + left * stride, cached, context)
    above = over_cached(sim, first + (left + 1) * stride, cached, context)
    fraction = (tokens - knots[left]) / (knots[left + 1] - knots[left])
    return max(0.0, below + fraction * (above - below))


@jit
def over_cached(sim: Any, first: int, cached: float, context: float) -> float:
    """Interpolate along the context of those that do a round, then along the chunks'."""
    knots, contexts = floats(sim.mixed_cached_at), floats(sim.mixed_context_at)
    times, size, stride = floats(sim.mixed_time_s_at), sim.mixed_cacheds, sim.mixed_contexts
    if size == 1 or cached <= knots[0]:
        return line(contexts, stride, times, first, context)
    left = size - 2
    while left > 0 and knots[left] > cached:
        left -= 1
    below = line(contexts, stride, times, first + left * stride, context)
    above = line(contexts, stride, times, first + (left + 1) * stride, context)
    fraction = (cached - knots[left]) / (knots[left + 1] - knots[left])
    return below + fraction * (above - below)
