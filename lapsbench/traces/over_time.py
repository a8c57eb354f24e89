"""How arrivals spread over time: dispersion of counts, the heaviest minute, the rate along the trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lapsbench.core import Floats, Longs, Trace

WINDOWS_S = (1, 10, 60)
MINUTE_S = 60.0
BINS = 60
AT_ONCE_S = 1e-9
"""A shorter trace is a single moment: rates over it would be numbers without a meaning."""


@dataclass(frozen=True, slots=True)
class OverTime:
    """Arrivals over time.

    Attributes:
        dispersion: variance over mean of the arrivals in windows of `WINDOWS_S`; 1 for a Poisson process, None with
            fewer than two whole windows.
        heaviest_start_s, heaviest_requests: the 60 s, from an arrival on, in which most arrive.
        bin_s: length of a bin of `rates_rps`; 0 where all arrive at once.
        rates_rps: float64 [BINS], the rate along the trace.
    """

    dispersion: tuple[float | None, ...]
    heaviest_start_s: float
    heaviest_requests: int
    bin_s: float
    rates_rps: Floats


def over_time(trace: Trace) -> OverTime:
    """Measure a trace of at least one request."""
    since_s = trace.arrival_s - trace.arrival_s[0]
    ends = np.searchsorted(since_s, since_s + MINUTE_S, side="left")
    within = ends - np.arange(len(since_s))
    heaviest = int(np.argmax(within))
    bin_s = float(since_s[-1]) / BINS if since_s[-1] >= AT_ONCE_S else 0.0
    counts = _counts(since_s, bin_s, BINS) if bin_s > 0 else np.zeros(BINS, dtype=np.int64)
    return OverTime(
        dispersion=tuple(_dispersion(since_s, window_s) for window_s in WINDOWS_S),
        heaviest_start_s=float(since_s[heaviest]),
        heaviest_requests=int(within[heaviest]),
        bin_s=bin_s,
        rates_rps=counts / bin_s if bin_s > 0 else np.zeros(BINS),
    )


def _dispersion(since_s: Floats, window_s: float) -> float | None:
    whole = float(since_s[-1] // window_s)
    if whole < 2:
        return None
    used = since_s[since_s < whole * window_s]
    # by np.unique: a trace of years has more seconds than memory has room for
    _, counts = np.unique(used // window_s, return_counts=True)
    mean = len(used) / whole
    square = float((counts.astype(np.float64) ** 2).sum()) / whole
    return (square - mean**2) / mean


def _counts(since_s: Floats, bin_s: float, bins: int) -> Longs:
    places = np.minimum((since_s / bin_s).astype(np.int64), bins - 1)
    return np.bincount(places, minlength=bins)
