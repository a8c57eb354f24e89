"""Rounds that are told by how many accepted how much, not in which order: the order is drawn, the same on every read.

Of such a recording the mean and the spread between requests are real; memory and drift are not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.streams import stream

if TYPE_CHECKING:
    from lapsbench.acceptance.json_records import Record
    from lapsbench.core import Longs

SEED = 0
MOST_ROUNDS = 1_000_000
"""Of one answer."""


def of_histogram(record: Record, histogram: Longs, name: str) -> Longs:
    """Return int64 [rounds]: histogram[j] rounds accept j drafts, in an order drawn for the request of this name.

    Raises:
        LapsbenchError: more rounds than an answer can have.
    """
    _refuse_absurd(record, int(histogram.sum()))
    rounds = np.repeat(np.arange(len(histogram)), histogram)
    return stream(SEED, f"acceptance/order of {name}").permutation(rounds)


def of_totals(record: Record, accepted: int, rounds: int) -> Longs:
    """Return int64 [rounds] that sum to `accepted`, as even as whole numbers can be.

    Raises:
        LapsbenchError: more rounds than an answer can have.
    """
    _refuse_absurd(record, rounds)
    steps = np.arange(rounds + 1, dtype=np.int64) * accepted // max(rounds, 1)
    return np.diff(steps)


def _refuse_absurd(record: Record, rounds: int) -> None:
    if rounds > MOST_ROUNDS:
        raise record.fail(f"counts {rounds:,} rounds of one answer")
