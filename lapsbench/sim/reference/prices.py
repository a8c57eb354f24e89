"""What a step costs, in plain Python: docs/model.md, on the tables of `sim/cost.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.sim.cost import BY_DRAFTS, DRAFT, DRAFT_PREFILL, OVERHEAD, PREFILL, SWAP_IN, SWAP_OUT, VERIFY, round_s

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lapsbench.core import Engine, Floats
    from lapsbench.sim.cost import StepCosts


class Prices:
    """What a step costs, and how many look-ups were beyond the measured grid."""

    def __init__(self, costs: StepCosts, engine: Engine) -> None:
        self.costs, self.draft_tokens, self.varies = costs, engine.draft_tokens, bool(engine.drafts)
        self.lookups = self.lookups_beyond = 0
        self.draft_s = 0.0

    def step(
        self,
        batch: int,
        contexts: list[int],
        chunks: Iterable[tuple[int, int]],
        swap_s: float = 0.0,
        *,
        most: int,
        mean: float,
    ) -> float:
        """Return the seconds of a step: contexts of jobs that do a round, (tokens, cached) of those that prefill.

        Drafts a round: at most, and on average.
        """
        m, chunks = len(contexts), list(chunks)
        overhead = self.part(OVERHEAD, batch, 0)
        draft = verify = work = 0.0
        if m > 0:
            context = sum(contexts) / m
            if most > 0:
                draft = self.part(self.row(DRAFT, most), m, context)
            mixed = bool(chunks) and self.costs.mixed is not None
            verify = self.mixed(m, mean, context, chunks) if mixed else self.verify(m, mean, context)
        for number, (tokens, cached) in enumerate(chunks):
            shared = m > 0 or number > 0
            if self.costs.mixed is None or m == 0:
                work += self.chunk(PREFILL, tokens, cached, shared=shared)
            if most > 0:
                work += self.chunk(DRAFT_PREFILL, tokens, cached, shared=shared)
        self.draft_s = draft
        return overhead + draft + verify + work + swap_s

    def row(self, component: int, drafts: int) -> int:
        """Return where the times of DRAFT or VERIFY at so many drafts are."""
        return BY_DRAFTS + 2 * drafts + (component == VERIFY) if self.varies else component

    def verify(self, m: int, mean: float, context: float) -> float:
        """Price verification; between whole numbers of drafts on a line."""
        whole = int(mean)
        below = self.part(self.row(VERIFY, whole), m, context)
        if mean == whole:
            return below
        above = self.part(self.row(VERIFY, whole + 1), m, context)
        return below + (mean - whole) * (above - below)

    def mixed(self, m: int, mean: float, context: float, chunks: list[tuple[int, int]]) -> float:
        """Price rounds and chunks of a step together; between whole numbers of drafts on a line."""
        tokens = sum(new for new, _ in chunks)
        cached = sum(new * before for new, before in chunks) / tokens
        whole = int(mean)
        below = self.mixed_at(m, whole, tokens, cached, context)
        if mean == whole:
            return below
        above = self.mixed_at(m, whole + 1, tokens, cached, context)
        return below + (mean - whole) * (above - below)

    def mixed_at(self, m: int, drafts: int, tokens: int, cached: float, context: float) -> float:
        """Look rounds and chunks up: along the context of the rounds, that of the chunks, and the chunks' tokens."""
        costs = self.costs.mixed
        assert costs is not None  # noqa: S101 - its caller knows
        self.lookups += 1
        sizes = (drafts + 1, tokens, cached, context)
        self.lookups_beyond += int(any(size > most for size, most in zip(sizes, costs.limit[m], strict=True)))
        by_tokens = []
        for plane in costs.time_s[m, drafts if self.varies else 0]:
            by_cached = np.array([interpolate(costs.context, line, context) for line in plane])
            by_tokens.append(interpolate(costs.cached, by_cached, cached))
        return max(0.0, interpolate(costs.tokens, np.array(by_tokens), tokens))

    def by_drafts(self, cost_s: list[float], m: int, context: float, most: int) -> None:
        """Write what m rounds cost with 0 drafts, with 1, and so on; no look-ups of a step."""
        for drafts in range(most + 1):
            line = round_s(self.costs, m, drafts)
            cost_s[drafts] = max(0.0, interpolate(self.costs.context, line, context))

    def part(self, component: int, batch: int, context: float) -> float:
        """Look a component up, and count whether that was beyond the measured grid."""
        self.lookups += 1
        self.lookups_beyond += int(context > self.costs.step_limit[component, batch])
        return max(0.0, interpolate(self.costs.context, self.costs.step_s[component, batch], context))

    def chunk(self, component: int, tokens: int, cached: int, *, shared: bool) -> float:
        """Price a prefill chunk; one that shares its pass over the weights pays only what it adds."""
        self.lookups += 1
        most_tokens, most_cached = self.costs.chunk_limit[component]
        self.lookups_beyond += int(tokens > most_tokens or cached > most_cached)
        full = chunk_time(self.costs, component, tokens, cached)
        return max(0.0, full - chunk_time(self.costs, component, 1, 0)) if shared else full

    def resume(self, engine: Engine, done: int) -> float:
        """Return what taking out a running job with so many tokens cached costs when it resumes; no look-up of a step.

        A prefix cache finds its full blocks again, but never its last token.
        """
        if engine.on_preempt == "keep" or done <= 0:
            return 0.0
        if engine.on_preempt == "swap":
            lines = [self.costs.step_s[component, 1] for component in (SWAP_OUT, SWAP_IN)]
            return sum(max(0.0, interpolate(self.costs.context, line, done)) for line in lines)
        caching = engine.rules == "vllm" and engine.prefix_cache
        kept = (done - 1) // engine.block_tokens * engine.block_tokens if caching else 0
        again_s = chunk_time(self.costs, PREFILL, done - kept, kept)
        if self.draft_tokens > 0:
            again_s += chunk_time(self.costs, DRAFT_PREFILL, done - kept, kept)
        return again_s


def interpolate(knots: Floats, values: Floats, x: float) -> float:
    """Piecewise linear: constant below the first knot (and with one), linear continuation beyond the last."""
    if len(knots) == 1 or x <= knots[0]:
        return float(values[0])
    left = max(i for i in range(len(knots) - 1) if knots[i] <= x)
    fraction = (x - float(knots[left])) / float(knots[left + 1] - knots[left])
    return float(values[left]) + fraction * float(values[left + 1] - values[left])


def chunk_time(costs: StepCosts, component: int, tokens: int, cached: int) -> float:
    """Prefill time of `tokens` new tokens over `cached` ones: along cached tokens first, then along new ones."""
    lines = np.array([interpolate(costs.cached, row, cached) for row in costs.chunk_s[component]])
    return max(0.0, interpolate(costs.query, lines, tokens))
