"""One policy before and after: the ratio of a metric over the same requests, with an interval and a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from lapsbench.metrics.catalog import BY_NAME
from lapsbench.metrics.comparison import paired
from lapsbench.metrics.definitions import request_metrics
from lapsbench.metrics.intervals import Interval, jackknife
from lapsbench.metrics.pool import pooled
from lapsbench.metrics.statistics import quantiles_without
from lapsbench.metrics.wording import SAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lapsbench.core import Floats, Ints, Outcome
    from lapsbench.metrics.summary import CellSummary

FEWEST = 200
"""Measured requests a seed must have: with fewer there are no blocks, and a seed more or less decides nothing."""
BEYOND = 10
"""Requests of a seed that must lie beyond a quantile: a p99 takes 1,000."""

Verdict = Literal["better", "same", "worse", "undecided"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One cell of both runs.

    Attributes:
        identical: whether every request fared exactly the same.
        without: metric -> the quantile with each block left out, before and after.
    """

    before: CellSummary
    after: CellSummary
    identical: bool
    without: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """A metric of one policy at one load, after over before; `why` says what keeps it undecided."""

    policy: str
    label: str
    load: float | None
    metric: str
    before: float | None
    after: float | None
    ratio: float | None
    low: float | None
    high: float | None
    method: str
    units: int
    verdict: Verdict
    why: str = ""


def change(pairs: Sequence[Pair], metric: str) -> Change:
    """Compare one metric over the seeds of one policy at one load."""
    first = pairs[0].after
    before = pooled([pair.before for pair in pairs], metric).value
    after = pooled([pair.after for pair in pairs], metric).value
    if all(pair.identical for pair in pairs):
        found, method, units, why = Interval(1.0, 1.0, 1.0), "identical", len(pairs), ""
    else:
        found, method, units = _ratio(pairs, metric)
        why = _why(pairs, metric, found)
        found = Interval(found.value) if why else found
    verdict = _verdict(found, metric)
    if verdict == "undecided" and not why:
        why = "the interval spans no change"
    ends = (found.value, found.low, found.high)
    return Change(first.policy, first.label, first.load, metric, before, after, *ends, method, units, verdict, why)


def without_blocks(
    arrival_s: Floats, output_tokens: Ints, outcomes: tuple[Outcome, Outcome], warmup: int, metrics: Sequence[str]
) -> dict[str, tuple[Floats, Floats]]:
    """Return what intervals of quantiles need from one pair of runs."""
    found = {}
    for name in metrics:
        share = share_of(name)
        if share is None:
            continue
        sides = []
        for outcome in outcomes:
            requests = request_metrics(arrival_s, output_tokens, outcome)
            window = requests.finished & (np.arange(len(arrival_s)) >= warmup)
            sides.append(quantiles_without(getattr(requests, BY_NAME[name].quantity), share, window, warmup))
        found[name] = (sides[0], sides[1])
    return found


def _ratio(pairs: Sequence[Pair], metric: str) -> tuple[Interval, str, int]:
    found, method, units = paired([(pair.after, pair.before) for pair in pairs], metric)
    if method != "none" or found.value is None or units > 1 or metric not in pairs[0].without:
        return found, method, units
    before, after = pairs[0].without[metric]
    if len(before) == len(after) > 1 and found.value > 0 and np.all(before > 0) and np.all(after > 0):
        interval = jackknife(float(np.log(found.value)), np.log(after) - np.log(before), serial=True)
        return interval, "blocks", len(before)
    return found, method, units


def _why(pairs: Sequence[Pair], metric: str, found: Interval) -> str:
    """Say why there is nothing to decide; "" where there is."""
    cells = [cell for pair in pairs for cell in (pair.before, pair.after)]
    least = min(cell.measured for cell in cells)
    share = share_of(metric)
    if BY_NAME[metric].windowed and any(cell.unfinished for cell in cells):
        return "requests were left unfinished"
    if any(pair.before.rejected != pair.after.rejected for pair in pairs):
        return "the runs rejected different requests"
    if least < FEWEST:
        return f"only {least:,} requests a seed; {FEWEST} can tell"
    if share is not None and least * (1 - share) < BEYOND - 1e-9:
        return f"only {least:,} requests a seed; its tail takes {round(BEYOND / (1 - share)):,}"
    if found.value is None:
        return "undefined, or zero before"
    return "" if found.low is not None else "one seed gives no interval for it"


def _verdict(found: Interval, metric: str) -> Verdict:
    if found.low is None or found.high is None:
        return "undecided"
    if found.low >= 1 - SAME and found.high <= 1 + SAME:
        return "same"
    if found.low <= 1 <= found.high:
        return "undecided"
    return "better" if (found.high < 1) == (BY_NAME[metric].better == "lower") else "worse"


def share_of(metric: str) -> float | None:
    """Return the share a quantile is of, None for other statistics."""
    statistic = BY_NAME[metric].statistic
    return int(statistic[1:]) / 100 if statistic[0] == "p" and statistic[1:].isdigit() else None
