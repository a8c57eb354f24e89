"""Ratios of policies to each other, with 95 % intervals that respect pairing (docs/metrics.md, "Intervals")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from lapsbench.metrics.catalog import BY_NAME, METRICS
from lapsbench.metrics.intervals import Interval, Sums, ratio_interval
from lapsbench.metrics.pool import loads, policies, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.metrics.summary import CellSummary

Method = Literal["seeds", "blocks", "none"]
Pair = tuple["CellSummary", "CellSummary"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric of one policy over the same metric of another, same load, same seeds, same requests.

    Attributes:
        ratio: ratio of the means over seeds: what dividing two cells of the printed table gives. None if undefined.
        low, high: 95 % interval; None where there is none.
        method: what the interval varies over: seeds, blocks of consecutive arrivals, or nothing.
        units: how many seeds or blocks.
    """

    policy: str
    baseline: str
    load: float | None
    metric: str
    ratio: float | None
    low: float | None
    high: float | None
    method: Method
    units: int


def compare(cells: Sequence[CellSummary], baseline: str) -> tuple[Comparison, ...]:
    """Compare every policy with the baseline (itself included, at 1) in every metric where a ratio has a meaning."""
    found = []
    for load in loads(cells):
        here = [cell for cell in cells if cell.load == load]
        names = [metric.name for metric in METRICS if metric.better != "neither"]
        found += [ratio(here, policy, baseline, load, name) for policy in policies(here) for name in names]
    return tuple(found)


def ratio(
    cells: Sequence[CellSummary], policy: str, baseline: str, load: float | None, metric: str = "jct_mean_s"
) -> Comparison:
    """Compare two policies at one load over the seeds both have.

    Undefined for latencies where a side left requests unfinished: those were its slowest.
    """
    theirs = {cell.seed: cell for cell in select(cells, baseline, load)}
    pairs = [(cell, theirs[cell.seed]) for cell in select(cells, policy, load) if cell.seed in theirs]
    found, method, units = paired(pairs, metric)
    return Comparison(policy, baseline, load, metric, found.value, found.low, found.high, method, units)


def paired(pairs: Sequence[Pair], metric: str) -> tuple[Interval, Method, int]:
    """Return the ratio of the first of every pair to the second, what its interval varies over, and how many of them.

    A pair is one seed. Seeds that redraw nothing, as without drafts and with exact predictions, are one run and no
    replicates: their interval would be a point, and certain of what it never varied. They count as one.
    """
    partial = BY_NAME[metric].windowed and any(cell.unfinished for pair in pairs for cell in pair)
    if len(pairs) > 1 and all(_alike(pair, pairs[0]) for pair in pairs):
        pairs = pairs[:1]
    found, method, units = _interval([] if partial else pairs, metric)
    return (found, method, units) if found.low is not None else (found, "none", len(pairs))


def _alike(pair: Pair, other: Pair) -> bool:
    return all(mine.metrics == theirs.metrics for mine, theirs in zip(pair, other, strict=True))


def _interval(pairs: Sequence[Pair], metric: str) -> tuple[Interval, Method, int]:
    if len(pairs) == 1 and all(metric in cell.blocks for cell in pairs[0]):
        ours, theirs = (cell.blocks[metric] for cell in pairs[0])
        if len(ours) == len(theirs):
            return ratio_interval(ours, theirs, serial=True), "blocks", len(ours)
    values = [(ours.metrics[metric], theirs.metrics[metric]) for ours, theirs in pairs]
    defined = [(upper, lower) for upper, lower in values if upper is not None and lower is not None]
    if not defined or len(defined) < len(values):
        return Interval(None), "none", 0
    upper, lower = np.array(defined).T
    ones = np.ones(len(defined))
    return ratio_interval(Sums(upper, ones), Sums(lower, ones), serial=False), "seeds", len(defined)
