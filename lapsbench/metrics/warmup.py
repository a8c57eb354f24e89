"""Where the measured window begins: MSER-5 on the offered backlog, one cut for every policy.

The backlog is that of one server of the engine's capacity: it depends on the work alone, so the cut, and with it every
number of a policy, does not change with the policies it is compared to. (On the baseline's JCT it did: the same srpt
cells had a mean of 6.6 s beside fcfs and 5.2 s with srpt as the baseline.)

White, "An Effective Truncation Heuristic for Bias Reduction in Simulation Output", Simulation 69(6), 1997;
batches of five: White, Cobb and Spratt, WSC 2000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lapsbench.core import Floats

BATCH = 5
FEWEST = 200
"""Below this many requests nothing is cut."""
LARGEST = 0.05
"""Share of the requests that may be cut: real traces wander, and with a quarter allowed a busy first hour of the Azure
trace passed for warm-up. An engine that starts empty fills within a few dozen requests."""


def backlog_s(arrival_s: Floats, alone_s: Floats, capacity_rps: float) -> Floats:
    """Return the seconds of work each arrival finds before it, float64 [N].

    Lindley's recursion W[j+1] = max(0, W[j] + s[j] - (a[j+1] - a[j])) with service times s proportional to the solo
    JCT and of mean 1 / capacity.
    """
    service_s = alone_s / (alone_s.mean() * capacity_rps)
    ahead = np.concatenate(([0.0], np.cumsum(service_s)[:-1])) - arrival_s
    return np.asarray(ahead - np.minimum.accumulate(ahead))


def warmup_cut(series: Floats) -> int:
    """Return how many of the first arrivals to leave out of latency statistics.

    The cut minimizes the squared standard error of what is left, so a filling queue goes and steady noise stays.
    `series` is one value per arrival, in order; NaN where there is none.
    """
    if len(series) < FEWEST:
        return 0
    known = np.flatnonzero(np.isfinite(series))
    batches = len(known) // BATCH
    if batches < 2:
        return 0
    means = series[known[: batches * BATCH]].reshape(batches, BATCH).mean(axis=1)
    level = means.mean()
    if np.ptp(means) <= 1e-9 * level:
        # a constant series has no warm-up: rounding must not choose one
        return 0
    # shifted, or the sums of squares below would cancel for long, quiet series
    means = means - level
    left = np.arange(batches, 0, -1)
    sums = np.cumsum(means[::-1])[::-1]
    squares = np.cumsum((means**2)[::-1])[::-1]
    errors = (squares - sums**2 / left) / left**2
    starts = known[: batches * BATCH : BATCH]
    starts[0] = 0
    allowed = starts <= len(series) * LARGEST
    return int(starts[np.argmin(errors[allowed])])
