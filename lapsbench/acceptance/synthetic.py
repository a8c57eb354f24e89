"""Generate an acceptance bank with a wanted mean, spread between requests, memory and drift.

Whether the draft's token at a position is the target's is one bit of the recording, and accept_runs[g] counts the
consecutive ones from g on, so a recording is consistent with itself at every position and for every draft length.
Each request has an own rate of tokens per round; a slow mood, an autoregression over positions, moves the rate along
the way, which is what makes one round resemble the next.

Tried and rejected: a Markov chain of the bits themselves. At a lag-1 correlation of .07 its memory is gone a round
later, and the first draft of a round fares worse than the next two: .60, .72, .72. The ShareGPT recordings of
Llama-3.1-8B with EAGLE-3 have .14, .08, .07, .05 at lags 1, 2, 3, 5, and .63, .65, .67 by depth; with the mood it is
.11, .11, .09, .07 and .60, .65, .68.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.acceptance.rounds import rounds_of
from lapsbench.core import Bank
from lapsbench.errors import UsageError
from lapsbench.streams import stream

if TYPE_CHECKING:
    from lapsbench.core import Bytes, Floats, Ints, Longs, Strings

MOOD_TOKENS = 24.0
"""Positions over which a mood fades to 1/e: some ten rounds."""
EDGE = 1e-3
"""How close tokens per round may come to 1 and to k + 1."""


@dataclass(frozen=True, slots=True)
class Synthetic:
    """What a generated bank is to look like at `draft_tokens` drafts a round.

    Attributes:
        mean: tokens per round, bonus included, pooled over rounds.
        spread: standard deviation between requests of their underlying tokens per round; short requests show more.
        memory: lag-1 correlation of the tokens of consecutive rounds of a request, about its own mean.
        drift: rise of tokens per round from the first to the last token, as a share.
        draft_tokens: the draft length k that mean, spread and memory are told for.
        draft_tokens_max: recordings are cut at this many drafts.
    """

    mean: float = 2.25
    spread: float = 0.3
    memory: float = 0.1
    drift: float = 0.05
    draft_tokens: int = 3
    draft_tokens_max: int = 8

    def __post_init__(self) -> None:
        k = self.draft_tokens
        room = (self.mean - 1) * (k + 1 - self.mean)
        _require(1 <= k <= self.draft_tokens_max <= 255, "draft_tokens", k, "1 .. draft_tokens_max <= 255")
        _require(1 < self.mean < k + 1, "mean", self.mean, f"above 1 and below draft_tokens + 1 = {k + 1}")
        _require(
            self.spread >= 0 and self.spread**2 < room,
            "spread",
            self.spread,
            f"0 or more and below {room**0.5:.3g}, for this mean",
        )
        _require(0 <= self.memory <= 0.5, "memory", self.memory, "0 to 0.5")
        _require(-0.5 <= self.drift <= 0.5, "drift", self.drift, "-0.5 to 0.5")


def generate(
    wanted: Synthetic, seed: int, *, prompt_id: Strings, category: Strings, prompt_tokens: Ints, output_tokens: Ints
) -> Bank:
    """Return a bank with one generated recording per prompt.

    Raises:
        UsageError: the mean cannot be reached with this spread and memory.
    """
    walk = _Walk.of(output_tokens, wanted.draft_tokens_max, seed)
    offsets = np.concatenate([[0], np.cumsum(output_tokens, dtype=np.int64)])
    rates = _request_rates(wanted, len(output_tokens), seed)
    shift = 0.0
    for _ in range(12):
        runs = walk.accept_runs(wanted, rates + shift)
        bank = Bank(prompt_id, category, prompt_tokens, output_tokens, offsets, runs, wanted.draft_tokens_max)
        told = rounds_of(bank, wanted.draft_tokens)
        measured = told.tokens_per_round
        # pooling weighs slow requests and moods by their many rounds, so the mean of the rates is not the pooled mean;
        # the draws stay the same, so a shift of all rates mends it. NaN: no rounds, nothing to mend
        near = max(0.005, wanted.mean / max(int(told.rounds.sum()), 1))
        if np.isnan(measured) or abs(measured - wanted.mean) <= near:
            return bank
        shift += wanted.mean - measured
    raise UsageError(
        f"a mean of {wanted.mean} tokens per round is out of reach; it came to {measured:.3f}",
        where="synthetic acceptance",
        hint="a smaller spread or memory, or more output tokens",
    )


@dataclass(frozen=True, slots=True)
class _Walk:
    """The random numbers of a bank, drawn once, one value per position.

    A recording is walked draft_tokens_max positions past its end, so that runs near the end are as long as elsewhere.
    """

    request: Longs
    progress: Floats
    mood: Floats
    coin: Floats
    recorded: Longs

    @classmethod
    def of(cls, output_tokens: Ints, beyond: int, seed: int) -> _Walk:
        walked = output_tokens.astype(np.int64) + beyond
        starts = np.cumsum(walked) - walked
        request = np.repeat(np.arange(len(walked)), walked)
        position = np.arange(len(request)) - starts[request]
        coin = stream(seed, "synthetic/match").random(len(request))
        noise = stream(seed, "synthetic/mood").standard_normal(len(request))
        recorded = np.flatnonzero(position < output_tokens[request])
        return cls(request, position / walked[request], _mood(noise, starts, walked), coin, recorded)

    def accept_runs(self, wanted: Synthetic, rates: Floats) -> Bytes:
        """Return the recordings, end to end, of requests with these underlying tokens per round."""
        local = rates[self.request] * (1 + wanted.drift * (self.progress - 0.5)) + _mood_size(wanted) * self.mood
        matches = self.coin < _match_rate(local, wanted.draft_tokens)
        here = np.arange(len(matches))
        next_miss = np.minimum.accumulate(np.where(matches, len(matches), here)[::-1])[::-1]
        runs = np.minimum(next_miss - here, wanted.draft_tokens_max)
        return runs[self.recorded].astype(np.uint8)


def _request_rates(wanted: Synthetic, count: int, seed: int) -> Floats:
    """Draw each request's tokens per round from a beta distribution over 1 .. k + 1 of the wanted mean and spread."""
    if wanted.spread == 0:
        return np.full(count, wanted.mean)
    width = float(wanted.draft_tokens)
    share = (wanted.mean - 1) / width
    weight = share * (1 - share) / (wanted.spread / width) ** 2 - 1
    drawn = stream(seed, "synthetic/rate").beta(share * weight, (1 - share) * weight, count)
    return np.asarray(1 + width * drawn, dtype=np.float64)


def _mood(noise: Floats, starts: Longs, lengths: Longs) -> Floats:
    """Return a unit-variance autoregression per recording, all recordings walked in lock-step."""
    keep = np.exp(-1 / MOOD_TOKENS)
    fresh = np.sqrt(1 - keep**2)
    mood = noise.copy()
    longest_first = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[longest_first], lengths[longest_first]
    for position in range(1, int(lengths[0]) if len(lengths) else 0):
        here = starts[: np.searchsorted(-lengths, -position, side="left")] + position
        mood[here] = keep * mood[here - 1] + fresh * noise[here]
    return mood


def _mood_size(wanted: Synthetic) -> float:
    """Return the mood's standard deviation in tokens per round.

    With V the variance of one round's tokens at a fixed rate, s that of the mood and r its correlation a round later,
    memory = s^2 r / (s^2 + V).
    """
    rate = float(_match_rate(np.array([wanted.mean]), wanted.draft_tokens)[0])
    survival = rate ** np.arange(1, wanted.draft_tokens + 1)
    variance = float(np.sum((2 * np.arange(1, len(survival) + 1) - 1) * survival) - np.sum(survival) ** 2)
    correlation = float(np.exp(-wanted.mean / MOOD_TOKENS))
    return float(np.sqrt(wanted.memory * variance / (correlation - wanted.memory)))


def _match_rate(tokens_per_round: Floats, draft_tokens: int) -> Floats:
    """Invert tokens per round = 1 + p + ... + p^k (arXiv 2211.17192) for the chance p that one draft is accepted."""
    p = np.linspace(0, 1, 2049)
    tokens = np.polynomial.polynomial.polyval(p, np.ones(draft_tokens + 1))
    return np.interp(np.clip(tokens_per_round, 1 + EDGE, draft_tokens + 1 - EDGE), tokens, p)


def _require(held: bool, name: str, value: float, range_: str) -> None:  # noqa: FBT001
    if not held:
        raise UsageError(f"{name} = {value}", where="synthetic acceptance", hint=range_)
