"""How much of its work an engine did over, because preempting a request threw away what it had cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import REJECTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.core import Ints, Outcome

SHARE = 0.5
"""Recomputed tokens per prompt token from which prefilling again is a good part of all prefilling."""
TIMES = 10.0
"""How often all a request has, prompt and output, may be computed again; beyond, it mostly waits for itself."""


@dataclass(frozen=True, slots=True)
class Recomputing:
    """What was computed again.

    Attributes:
        prompt_tokens: of the requests that were not rejected.
        recomputed_tokens: of all requests.
        times_max: recomputed tokens of one request over its prompt and output tokens, at most.
        preemptions_max: of one request that computed anything again, at most.
    """

    prompt_tokens: int
    recomputed_tokens: int
    times_max: float
    preemptions_max: int

    @property
    def share(self) -> float:
        """Recomputed tokens over prompt tokens."""
        return self.recomputed_tokens / max(self.prompt_tokens, 1)

    @property
    def thrashes(self) -> bool:
        """Whether it is worth telling."""
        return self.share >= SHARE or self.times_max >= TIMES


def recomputing(prompt_tokens: Ints, output_tokens: Ints, outcome: Outcome) -> Recomputing:
    """Add up what a cell computed again."""
    again = outcome.recomputed_tokens
    return Recomputing(
        prompt_tokens=int(prompt_tokens[outcome.status != REJECTED].sum(dtype=np.int64)),
        recomputed_tokens=int(again.sum()),
        times_max=float((again / (prompt_tokens.astype(np.float64) + output_tokens)).max(initial=0.0)),
        preemptions_max=int(outcome.preemptions[again > 0].max(initial=0)),
    )


def together(parts: Sequence[Recomputing]) -> Recomputing:
    """Put seeds together: sums, and the worst of all."""
    return Recomputing(
        prompt_tokens=sum(each.prompt_tokens for each in parts),
        recomputed_tokens=sum(each.recomputed_tokens for each in parts),
        times_max=max((each.times_max for each in parts), default=0.0),
        preemptions_max=max((each.preemptions_max for each in parts), default=0),
    )
