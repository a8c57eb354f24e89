"""What the requests that finished say of predictions for others with prompts of about their length.

Where prompts say something of lengths, traffic tells within minutes, and no sample has to be given beforehand.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.compiled.later import helper

if TYPE_CHECKING:
    from lapsbench.core import Ints, Longs

LIMITS = np.array(sorted(set(np.ceil(2.0 ** (np.arange(1, 97) / 4)).tolist())), np.int64)
"""Prompt tokens at which the next bin begins: four bins to a factor of 2."""
ALL = len(LIMITS) + 1
"""The bin of everybody."""
UNIT, MOST = 1024, 64
"""A length over its prediction is counted in 1024ths, up to 64: whole numbers, so the order of adding is no matter."""
FEWEST = 3
DOUBT = 9.0
"""Squared standard errors within which a bin is as all are: 3 of them. With 2, what is noise on the shipped chat cost
`least-work` 5 % of mean JCT (batch 1, load 0.9, nothing predicted); with 3, nothing."""
LEAST = 1 / 64


def bins(prompt_tokens: Ints) -> Ints:
    """Return which bin each prompt falls into, below `ALL`."""
    return np.searchsorted(LIMITS, prompt_tokens, side="right").astype(np.int32)


@dataclass
class Past:
    """Per bin: how many finished, the sum of their lengths over predictions in units, and that of their squares."""

    known: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))

    def learn(self, prompt_tokens: int, predicted_tokens: float, output_tokens: int) -> None:
        """Note a request that finished."""
        share = int(min(output_tokens / predicted_tokens, MOST) * UNIT)
        for each in (int(bins(np.array(prompt_tokens))), ALL):
            seen = self.known[each]
            self.known[each] = [seen[0] + 1, seen[1] + share, seen[2] + share * share]

    def ratio(self, prompt_tokens: int) -> float:
        """Return by what a prediction for such a prompt falls short, beside all others; 1 while that is in doubt.

        With n of N requests in its bin, m their mean of length over prediction, M that of all and V its variance:
        1 + (1 - 9 V / (n (m - M)^2)) (m - M) / M, where the bracket is positive (a positive-part James-Stein rule).
        """
        count, total, _ = self.known[int(bins(np.array(prompt_tokens)))]
        everybody, whole, squares = self.known[ALL]
        if count < FEWEST:
            return 1.0
        mean = whole / everybody
        variance = (squares - float(whole) * float(whole) / everybody) / (everybody - 1)
        beyond = total / count - mean
        if DOUBT * variance >= count * beyond * beyond:
            return 1.0
        certain = 1.0 - DOUBT * variance / (count * beyond * beyond)
        return max(1.0 + certain * beyond / mean, LEAST)


@helper
def learn(past: Longs, each: int, share: int) -> None:
    """As `Past.learn`, of one bin, in an array of three numbers a bin."""
    past[3 * each] += 1
    past[3 * each + 1] += share
    past[3 * each + 2] += share * share


@helper
def ratio(past: Longs, each: int) -> float:
    """As `Past.ratio`."""
    count, everybody = past[3 * each], past[3 * ALL]
    if count < FEWEST:
        return 1.0
    whole = float(past[3 * ALL + 1])
    mean = whole / everybody
    variance = (float(past[3 * ALL + 2]) - whole * whole / everybody) / (everybody - 1)
    beyond = past[3 * each + 1] / count - mean
    if DOUBT * variance >= count * beyond * beyond:
        return 1.0
    certain = 1.0 - DOUBT * variance / (count * beyond * beyond)
    return max(1.0 + certain * beyond / mean, LEAST)
