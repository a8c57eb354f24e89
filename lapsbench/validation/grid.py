"""Which steps are measured before an engine is predicted: only what a trace can bring about on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.vllm.wanted import GROWTH, Step

if TYPE_CHECKING:
    from lapsbench.core import Engine, Trace

PROBED = 3
"""Times that a step with tokens of a prompt is taken in a probe."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Sizes of steps, and the sets that they are measured in: the same rounds, with and without a prompt.

    Attributes:
        chunks: tokens of a prompt, over cached ones.
    """

    drafts: int
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    chunks: tuple[tuple[int, int], ...]
    middle: int

    @property
    def with_prompt(self) -> tuple[int, ...]:
        """Rounds that share a step with a prompt: the fewest, and as many as leave it a place."""
        return tuple(sorted({1, max(self.batches[-1] - 1, 1)})) if self.batches[-1] > 1 else ()

    @property
    def longest(self) -> int:
        """The longest context of a measured step."""
        most = max(self.contexts[-1], *(tokens + cached for tokens, cached in self.chunks))
        return most + GROWTH * (1 + self.drafts)

    def sets(self) -> list[list[Step]]:
        """Return all steps, contexts up and rounds down, as who is seated stays; prompts alone are the last."""
        found = []
        for context in self.contexts:
            for rounds in sorted({*self.batches, *self.with_prompt}, reverse=True):
                steps = [Step(self.drafts, rounds, context)]
                if rounds in self.with_prompt:
                    steps += [Step(self.drafts, rounds, context, *chunk) for chunk in self.chunks]
                found.append(steps)
        return [*found, [Step(0, 0, 0, *chunk) for chunk in self.chunks]]

    def probes(self) -> list[list[Step]]:
        """Return a few steps of the grid, of every kind, that tell whether the machine has changed."""
        context, most = self.contexts[0], self.batches[-1]
        found = [[Step(self.drafts, most, context)], [Step(0, 0, 0, self.middle)] * PROBED]
        if self.with_prompt:
            rounds = self.with_prompt[-1]
            mixed = [Step(self.drafts, rounds, context, self.middle)] * PROBED
            found.insert(1, [Step(self.drafts, rounds, context), *mixed])
        return found


def grid_of(trace: Trace, engine: Engine, *, preempts: bool) -> Grid:
    """Return what a trace needs; `preempts`: whether contexts may be computed again.

    Sizes are quantiles of the trace's: below the first a step costs what the first costs, beyond the last it goes on
    in a line, and both are rare.
    """
    prompts, whole = trace.prompt_tokens, trace.prompt_tokens.astype(np.int64) + trace.output_tokens
    budget = (engine.batched_tokens if engine.rules == "vllm" else engine.prefill_budget) or 1 << 20
    room = budget - engine.max_batch * (1 + engine.draft_tokens) if engine.rules == "vllm" else budget
    low, middle, high = (max(int(np.quantile(prompts, share)), 2) for share in (0.2, 0.5, 1.0))
    again = preempts and engine.on_preempt == "recompute"
    longest = int(whole.max()) if again else high
    tokens = sorted({1, *(min(each, room) for each in (low, middle, longest, 2 * longest))})
    cached = (0, middle) if again or high > budget else (0,)
    contexts = tuple(sorted({low, int(np.quantile(whole, 0.9))}))
    batches = tuple(sorted({*(2**each for each in range(13) if 2**each < engine.max_batch), engine.max_batch}))
    chunks = tuple((new, before) for new in tokens for before in cached)
    return Grid(engine.draft_tokens, batches, contexts, chunks, min(middle, room))
