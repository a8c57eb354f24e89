"""Does the engine keep up? Labels a run STABLE, GROWING or OVERLOADED from live requests over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from lapsbench.core import LARGE, PART

if TYPE_CHECKING:
    from lapsbench.core import Floats

Label = Literal["STABLE", "GROWING", "OVERLOADED"]

BLOCKS = 20
FEWEST = 200
"""Below this many requests no label is given: filling an empty engine looks like growth."""
TREND = 0.5
"""Mann-Kendall tau above which live requests rise throughout, not in a burst. p < 0.01 for 20 blocks is 0.38, but
neighbouring blocks are not independent: at rho 0.9 that alone cried wolf in 12 % of runs of 1,000 M/M/1 requests."""
RISE = 0.5
"""Rise over the trace, in mean live requests: a straight climb from nothing has 2."""
GROWING = 0.02
OVERLOADED = 0.05
"""Rise over the trace per arrival. A queue served at rate mu piles up 1 - mu / lambda of its arrivals: rho 1.1, 0.09.
Together, on M/M/1: 10,000 requests at rho 0.7 to 0.95, 0 % flagged; at 1.1, 100 %; 1,000 requests at 0.7, 0 %; at 0.9,
5 %; at 1.1, 87 %."""


@dataclass(frozen=True, slots=True)
class Saturation:
    """The label and what it rests on.

    Attributes:
        tau: Mann-Kendall tau of mean live requests over `BLOCKS` equal parts of the arrival period.
        growth_per_arrival: their rise over the period (Theil-Sen slope) per arrival; no more than are live at its
            end, which the slope says where arrivals come in bunches.
    """

    label: Label
    tau: float
    growth_per_arrival: float


def saturation(arrival_s: Floats, finished_s: Floats) -> Saturation | None:
    """Judge one run; None where there are too few requests, or all arrive at once.

    Rejected requests are left out by the caller; `finished_s` is NaN where a request never finished.
    """
    count = len(arrival_s)
    if count < FEWEST or arrival_s.max() <= arrival_s.min():
        return None
    if count > LARGE:
        found = LiveRequests(float(arrival_s.min()), float(arrival_s.max()))
        for first in range(0, count, PART):
            found.add(arrival_s[first : first + PART], finished_s[first : first + PART])
        return found.saturation()
    last = count - int(np.count_nonzero(finished_s <= arrival_s.max()))
    return judged(live_requests(arrival_s, finished_s), count, last)


def judged(live: Floats, count: int, last: int) -> Saturation:
    """Judge live requests over time: of `count` in all, `last` are live when the last one arrives."""
    first, second = np.triu_indices(BLOCKS, 1)
    rises = live[second] - live[first]
    tau = float(np.sign(rises).mean())
    growth = float(np.median(rises / (second - first))) * BLOCKS
    label: Label = "STABLE"
    if tau > TREND and growth > RISE * live.mean() and growth > GROWING * count:
        label = "OVERLOADED" if growth > OVERLOADED * count else "GROWING"
    return Saturation(label, tau, min(growth, last) / count)


def live_requests(arrival_s: Floats, finished_s: Floats) -> Floats:
    """Return the time-average number of live requests in each of `BLOCKS` equal parts of the arrival period."""
    start = arrival_s.min()
    edges = np.linspace(0.0, arrival_s.max() - start, BLOCKS + 1)
    left = finished_s[np.isfinite(finished_s)]
    request_seconds = _elapsed(arrival_s - start, edges) - _elapsed(left - start, edges)
    return np.asarray(np.diff(request_seconds) / np.diff(edges))


class LiveRequests:
    """As `live_requests`, of requests that come in parts: their arrivals lie between `first_s` and `last_s`."""

    def __init__(self, first_s: float, last_s: float) -> None:
        self.first_s, self.last_s = first_s, last_s
        self.edges = np.linspace(0.0, last_s - first_s, BLOCKS + 1)
        self.request_seconds = np.zeros(BLOCKS + 1)
        self.count = self.gone = 0

    def add(self, arrival_s: Floats, finished_s: Floats) -> None:
        """Count requests that were not rejected."""
        left = finished_s[np.isfinite(finished_s)]
        self.request_seconds += _elapsed(arrival_s - self.first_s, self.edges)
        self.request_seconds -= _elapsed(left - self.first_s, self.edges)
        self.count += len(arrival_s)
        self.gone += int(np.count_nonzero(finished_s <= self.last_s))

    def saturation(self) -> Saturation | None:
        """Judge the run."""
        if self.count < FEWEST or self.last_s <= self.first_s:
            return None
        live = np.asarray(np.diff(self.request_seconds) / np.diff(self.edges))
        return judged(live, self.count, self.count - self.gone)


def _elapsed(events_s: Floats, edges: Floats) -> Floats:
    """Return the seconds since each event, summed over the events before each edge."""
    place = np.searchsorted(
        edges, events_s
    )  # of the first edge that has it; sorting the events took eight times as long
    before = np.cumsum(np.bincount(place, minlength=BLOCKS + 2))[: BLOCKS + 1]
    sums = np.cumsum(np.bincount(place, events_s, BLOCKS + 2))[: BLOCKS + 1]
    return np.asarray(before * edges - sums)
