"""Where the measured window begins: MSER-5 on the baseline's JCT, one cut for every policy.

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
LARGEST = 0.25
"""Share of the requests that may be cut."""


def warmup_cut(jct_s: Floats) -> int:
    """Return how many of the first arrivals to leave out of latency statistics.

    The cut minimizes the squared standard error of what is left, so a filling queue goes and steady noise stays.
    Compute it once per (load, seed) on the baseline and apply it to every policy: the same requests stay compared.
    `jct_s` is in arrival order, NaN where a request never finished.
    """
    if len(jct_s) < FEWEST:
        return 0
    known = np.flatnonzero(np.isfinite(jct_s))
    batches = len(known) // BATCH
    if batches < 2:
        return 0
    means = jct_s[known[: batches * BATCH]].reshape(batches, BATCH).mean(axis=1)
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
    allowed = starts <= len(jct_s) * LARGEST
    return int(starts[np.argmin(errors[allowed])])
