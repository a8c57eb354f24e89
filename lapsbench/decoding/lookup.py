"""Prompt lookup: propose what followed the last time these words were said.

The rule of transformers' `PromptLookupCandidateGenerator`: the longest of the last n-grams that occurred before, and of
its occurrences the earliest; what followed it is proposed, up to the end of what is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def look_up(history: Tensor, known: Tensor, ngram: int, draft_tokens: int) -> tuple[Tensor, Tensor]:
    """Return proposed tokens int64 [B, k] and how many of them are proposals, int64 [B].

    Args:
        history: int64 [B, room].
        known: int64 [B], tokens of each row that are known.
        ngram: the longest n-gram to look for.
        draft_tokens: k.
    """
    matched = _matched(history, known, ngram)
    places = torch.arange(history.shape[1], device=history.device)
    # the longest match first, then the earliest: one number orders both
    best = (matched * len(places) + (len(places) - 1 - places)).argmax(dim=1)
    found = matched.gather(1, best[:, None])[:, 0] > 0
    follows = best[:, None] + 1 + torch.arange(draft_tokens, device=history.device)
    counts = torch.where(found, (known - 1 - best).clamp(max=draft_tokens), 0)
    return history.gather(1, follows.clamp(max=history.shape[1] - 1)), counts


def _matched(history: Tensor, known: Tensor, ngram: int) -> Tensor:
    """Return int64 [B, room]: how many of the last tokens, up to `ngram`, also end at this place, before the end."""
    room = history.shape[1]
    places = torch.arange(room, device=history.device)
    matched = torch.zeros_like(history)
    runs = places < (known - 1)[:, None]
    for back in range(min(ngram, room)):
        token = history.gather(1, (known - 1 - back).clamp(min=0)[:, None])
        shifted = history.roll(back, dims=1)
        # a place with fewer than `back` tokens before it has no such n-gram, nor has a row with fewer known
        runs = runs & (shifted == token) & (places >= back) & (known > back + 1)[:, None]
        matched += runs
    return matched
