"""95 % intervals that need numpy only: Student's t, and the paired jackknife for ratios of sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lapsbench.core import Floats

Z = 1.959963984540054
T_SMALL = (12.706204736, 4.302652730, 3.182446305)


@dataclass(frozen=True, slots=True)
class Sums:
    """A statistic in additive parts: its value is sum(sums) / sum(counts). One part per block of arrivals, or seed."""

    sums: Floats
    counts: Floats

    def __len__(self) -> int:
        return len(self.sums)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its 95 % interval; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, to three decimals.

    Tabled up to 3 degrees of freedom, then the Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5): scipy has it
    exactly, and takes 1.9 s to import.
    """
    if freedom <= len(T_SMALL):
        return T_SMALL[freedom - 1]
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
        (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92160,
    )
    return Z + sum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))


def ratio_interval(upper: Sums, lower: Sums, *, serial: bool) -> Interval:
    """Return (value of upper) / (value of lower) with a jackknife t interval on its logarithm.

    Both hold the same parts in the same order. Leaving out the same part on both sides is what makes it paired: what
    moves both cancels. `serial` says that the parts follow each other in time: then their lag-1 correlation r widens
    the interval by sqrt((1 + r) / (1 - r)), as in Skart (Tafazzoli et al., INFORMS Journal on Computing 23(4), 2011).
    """
    whole = _log_ratio(_total(upper), _total(lower))
    without = _log_ratio(_leave_one_out(upper), _leave_one_out(lower))
    if whole is None:
        nothing = upper.sums.sum() == 0 and lower.sums.sum() > 0
        return Interval(0.0 if nothing else None)
    if without is None:
        return Interval(float(np.exp(whole[0])))
    return jackknife(float(whole[0]), without, serial=serial)


def jackknife(log_ratio: float, without: Floats, *, serial: bool) -> Interval:
    """Return the interval of a ratio from its logarithm, and its logarithms with each part left out.

    Also for quantiles, as long as a part is large: leaving out d of n requests is consistent where d exceeds sqrt(n)
    (Shao and Wu, Annals of Statistics 17(3), 1989).
    """
    if len(without) < 2:
        return Interval(float(np.exp(log_ratio)))
    error = t_quantile(len(without) - 1) * _standard_error(without, serial=serial)
    low, value, high = np.exp(log_ratio + np.array([-error, 0.0, error]))
    return Interval(float(value), float(low), float(high))


def mean_interval(values: Floats) -> Interval:
    """Return the mean of independent values with its t interval."""
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean)
    error = t_quantile(len(values) - 1) * float(values.std(ddof=1)) / len(values) ** 0.5
    return Interval(mean, mean - error, mean + error)


def _total(parts: Sums) -> Sums:
    return Sums(parts.sums.sum(keepdims=True), parts.counts.sum(keepdims=True))


def _leave_one_out(parts: Sums) -> Sums:
    return Sums(parts.sums.sum() - parts.sums, parts.counts.sum() - parts.counts)


def _log_ratio(upper: Sums, lower: Sums) -> Floats | None:
    """Return the logarithm of the ratio, part by part; None if any is undefined."""
    if not all(np.all(each > 0) for each in (upper.sums, upper.counts, lower.sums, lower.counts)):
        return None
    return np.asarray(np.log(upper.sums / upper.counts) - np.log(lower.sums / lower.counts))


def _standard_error(without: Floats, *, serial: bool) -> float:
    parts = len(without)
    deviations = without - without.mean()
    squares = float(deviations @ deviations)
    if squares == 0.0:
        return 0.0
    correlation = float(deviations[1:] @ deviations[:-1]) / squares if serial else 0.0
    correlation = min(max(correlation, 0.0), 0.9)
    return float(np.sqrt((parts - 1) / parts * squares * (1 + correlation) / (1 - correlation)))
