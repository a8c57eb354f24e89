"""Which steps are measured before an engine is predicted: only what a trace can bring about on it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lapsbench.vllm.wanted import GROWTH, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.core import Engine, Trace

T = TypeVar("T")
PROMPTS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Quantiles of the trace's prompts."""
WALKS = 2
"""Over the grid, in a repeat."""
ALL_TO = 8
"""On a CPU a step's time goes up in stairs: between few rounds and few more no line is to be trusted."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Sizes of steps, and the sets that they are measured in: the same rounds, with and without a prompt.

    Attributes:
        chunks: tokens of a prompt, over cached ones, tokens up.
        fewest: drafts of a round where nothing is found to draft.
    """

    drafts: int
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    chunks: tuple[tuple[int, int], ...]
    fewest: int

    @property
    def with_prompt(self) -> tuple[int, ...]:
        """Rounds that share a step with a prompt: the fewest, some, and as many as leave it a place."""
        most = max(self.batches[-1] - 1, 1)
        return tuple(sorted({1, -(-most // 2), most})) if self.batches[-1] > 1 else ()

    @property
    def longest(self) -> int:
        """The longest context of a measured step."""
        most = max(self.contexts[-1], *(tokens + cached for tokens, cached in self.chunks))
        return most + GROWTH * (1 + self.drafts)

    def sets(self) -> list[list[Step]]:
        """Return all steps, rounds up: everybody is seated anew, no longer than said. Prompts alone are the last."""
        found = []
        for drafts, context in itertools.product(sorted({self.fewest, self.drafts}), self.contexts):
            for rounds in sorted({*self.batches, *self.with_prompt}):
                steps = [Step(drafts, rounds, context)]
                if rounds in self.with_prompt:
                    steps += [Step(drafts, rounds, context, *chunk) for chunk in self.chunks]
                found.append(steps)
        return [*found, [Step(0, 0, 0, *chunk) for chunk in self.chunks]]


def dealt(sets: Sequence[T], turn: int, turns: int) -> Sequence[T]:
    """Return those to be measured before a cell of a repeat: all of them `WALKS` times, once for a cell alone."""
    pieces = max(min(turns, len(sets)) // WALKS, 1)
    return sets[turn % pieces :: pieces]


def longest_of(trace: Trace, engine: Engine) -> int:
    """Return the longest context of a trace, with room for drafts: just below its limit vLLM drafts for nobody."""
    return int((trace.prompt_tokens.astype(np.int64) + trace.output_tokens).max()) + 2 * engine.draft_tokens + 1


def grid_of(trace: Trace, engine: Engine, *, preempts: bool, varies: bool) -> Grid:
    """Return what a trace needs.

    `preempts`: whether contexts may be computed again; `varies`: whether a round may find nothing to draft.

    Sizes are quantiles of the trace's: below the first a step costs what the first costs, beyond the last it goes on
    in a line, and both are rare.
    """
    prompts, whole = trace.prompt_tokens, trace.prompt_tokens.astype(np.int64) + trace.output_tokens
    budget = (engine.batched_tokens if engine.rules == "vllm" else engine.prefill_budget) or 1 << 20
    room = budget - engine.max_batch * (1 + engine.draft_tokens) if engine.rules == "vllm" else budget
    low, *between, high = (max(int(np.quantile(prompts, share)), 2) for share in PROMPTS)
    middle = between[len(between) // 2]
    again = preempts and engine.on_preempt == "recompute"
    longest = int(whole.max()) if again else high
    tokens = sorted({1, *(min(each, room) for each in (low, *between, longest, 2 * longest))})
    cached = (0, middle) if again or high > budget else (0,)
    contexts = tuple(sorted({low, int(np.quantile(whole, 0.9))}))
    sizes = {*range(1, ALL_TO + 1), *(2**each for each in range(13)), engine.max_batch}
    batches = tuple(sorted(each for each in sizes if each <= engine.max_batch))
    chunks = tuple((new, before) for new in tokens for before in cached)
    return Grid(engine.draft_tokens, batches, contexts, chunks, 0 if varies else engine.draft_tokens)
