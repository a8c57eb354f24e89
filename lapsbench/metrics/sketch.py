"""Quantiles of more values than fit in memory: counts in buckets of equal relative width.

A bucket is a float64's exponent and the first nine bits of its mantissa, so a value lies within 1/1024 of the middle of
its bucket, and so does every quantile. As DDSketch (Masson, Rim and Lee, VLDB 2019), whose logarithm the bits stand in
for: counting ten million values takes 0.1 s. Sketches of parts add up to that of the whole, exactly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lapsbench.core import Floats, Longs

ERROR = 2.0**-10
"""Of a quantile, relative, at most."""
_BITS = 9
_SHIFT = 52 - _BITS
_LEAST, _MOST = 2.0**-40, 2.0**40
"""Below, a value counts as 0: a picosecond. Above, as the limit: thirty thousand years."""
_FIRST = int(np.array(_LEAST).view(np.int64)) >> _SHIFT
_ZERO = float(np.nextafter(_LEAST, 0.0))
"""Of the bucket below that of `_LEAST`: the first one, of zeros."""
BUCKETS = (int(np.array(_MOST).view(np.int64)) >> _SHIFT) - _FIRST + 2


def places(values: Floats) -> Longs:
    """Return the bucket of each finite value."""
    place = np.clip(values, _ZERO, _MOST).view(np.int64)
    place >>= _SHIFT
    place -= _FIRST - 1
    return place


class Sketch:
    """Counts of values from 0 up."""

    def __init__(self) -> None:
        self.counts = np.zeros(BUCKETS, np.int64)

    def add(self, values: Floats) -> None:
        """Count finite values."""
        self.counts += np.bincount(places(values), minlength=BUCKETS)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def quantiles(self, shares: list[float]) -> list[float]:
        """Return quantiles, interpolated linearly between neighbours as NumPy does; there must be a value."""
        up_to = np.cumsum(self.counts)
        rank = np.asarray(shares) * (up_to[-1] - 1)
        below = np.floor(rank)
        low, high = (_middle(np.searchsorted(up_to, each, side="right")) for each in (below, np.ceil(rank)))
        found: list[float] = (low + (rank - below) * (high - low)).tolist()
        return found


def between(counts: Longs, share: float) -> float:
    """Return a quantile as if a bucket's values lay evenly in it: one that moves when a few of them are left out."""
    up_to = np.cumsum(counts)
    if not up_to[-1]:
        return math.nan
    rank = share * (up_to[-1] - 1)
    below = math.floor(rank)
    low, high = (_value(counts, up_to, each) for each in (below, math.ceil(rank)))
    return float(low + (rank - below) * (high - low))


def _value(counts: Longs, up_to: Longs, rank: int) -> float:
    place = int(np.searchsorted(up_to, rank, side="right"))
    low, high = _edges(np.array([place]))
    inside = (rank - (up_to[place] - counts[place]) + 0.5) / counts[place]
    return 0.0 if place == 0 else float(low[0] + inside * (high[0] - low[0]))


class Pile:
    """Values that come in parts: all of them are kept, or, where there are too many, a sketch and their sum.

    Args:
        large: whether there will be too many.
    """

    def __init__(self, *, large: bool) -> None:
        self.sketch = Sketch() if large else None
        self.kept: list[Floats] = []
        self.sum = 0.0

    def add(self, values: Floats) -> None:
        """Add what is finite of them."""
        values = values[np.isfinite(values)]
        if self.sketch is None:
            self.kept.append(values)
        else:
            self.sketch.add(values)
            self.sum += float(values.sum())

    def __len__(self) -> int:
        return sum(map(len, self.kept)) if self.sketch is None else len(self.sketch)

    def mean(self) -> float:
        """Return their mean; there must be a value."""
        return float(np.concatenate(self.kept).mean()) if self.sketch is None else self.sum / len(self.sketch)

    def quantiles(self, shares: Floats) -> list[float]:
        """Return quantiles, by linear interpolation; there must be a value."""
        if self.sketch is not None:
            return self.sketch.quantiles(shares.tolist())
        found: list[float] = np.quantile(np.concatenate(self.kept), shares).tolist()
        return found


def _middle(place: Longs) -> Floats:
    low, high = _edges(place)
    return np.asarray(np.where(place == 0, 0.0, (low + high) / 2))


def _edges(place: Longs) -> tuple[Floats, Floats]:
    first = (place + (_FIRST - 1)) << _SHIFT
    return first.view(np.float64), (first + (1 << _SHIFT)).view(np.float64)
