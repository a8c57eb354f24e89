"""What a round starts from, what a draft proposes, what comes out: the nouns of the decoder, all tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """The sequences of the rows of a batch, written in place round after round.

    A row's last token is known but not yet in any cache: verification starts with it.

    Attributes:
        history: int64 [B, room], prompt and output tokens; stale past lengths + 1.
        lengths: int64 [B], tokens in the target's cache, >= 1: all known tokens but the last.
        limits: int64 [B], tokens of prompt and output the row may reach; a row at its limit stands still.
        span: cached tokens attention reads this round, at least every length + draft tokens + 1.
    """

    history: Tensor
    lengths: Tensor
    limits: Tensor
    span: int

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def pair(self) -> Tensor:
        """int64 [B, 2], the last token in the target's cache, and the last token."""
        places = self.lengths[:, None] + torch.arange(-1, 1, device=self.lengths.device)
        return self.history.gather(1, places)

    @property
    def last(self) -> Tensor:
        """int64 [B, 1], the last token."""
        return self.history.gather(1, self.lengths[:, None])

    @property
    def remaining(self) -> Tensor:
        """int64 [B], tokens the row may still emit."""
        return self.limits - self.lengths - 1


@dataclass(frozen=True, slots=True)
class Proposal:
    """Drafted tokens.

    Attributes:
        tokens: int64 [B, k].
        counts: int64 [B], how many of them are drafted; the rest is padding.
        probabilities: [B, k, V], what each token was drawn from; None where the draft was certain of its tokens.
    """

    tokens: Tensor
    counts: Tensor
    probabilities: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Emission:
    """What a round gave, on the host.

    Attributes:
        tokens: int64 [B, k + 1], the accepted drafts and the target's own token; padding after `emitted`.
        emitted: int64 [B], accepted + 1; 0 where the row stands still.
        drafted: int64 [B], drafts that counted.
    """

    tokens: Tensor
    emitted: Tensor
    drafted: Tensor
