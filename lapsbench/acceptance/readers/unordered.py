"""Rounds that are told by how many accepted how much, not in which order: the order is drawn, the same on every read.

Of such a recording the mean and the spread between requests are real; memory and drift are not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.streams import stream

if TYPE_CHECKING:
    from lapsbench.core import Longs

SEED = 0


def of_histogram(histogram: Longs, name: str) -> Longs:
    """Return int64 [rounds]: histogram[j] rounds accept j drafts, in an order drawn for the request of this name."""
    rounds = np.repeat(np.arange(len(histogram)), histogram)
    return stream(SEED, f"acceptance/order of {name}").permutation(rounds)


def of_totals(accepted: int, rounds: int) -> Longs:
    """Return int64 [rounds] that sum to `accepted`, as even as whole numbers can be."""
    steps = np.arange(rounds + 1, dtype=np.int64) * accepted // max(rounds, 1)
    return np.diff(steps)
