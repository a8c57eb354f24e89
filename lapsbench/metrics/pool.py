"""Pick cells, and pool a metric over their seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.metrics.intervals import Interval, Sums, mean_interval, ratio_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lapsbench.metrics.summary import CellSummary


def policies(cells: Iterable[CellSummary]) -> tuple[str, ...]:
    """Return the policies' names in order of appearance."""
    return tuple(dict.fromkeys(cell.policy for cell in cells))


def loads(cells: Iterable[CellSummary]) -> tuple[float | None, ...]:
    """Return the loads in order of appearance."""
    return tuple(dict.fromkeys(cell.load for cell in cells))


def select(cells: Iterable[CellSummary], policy: str, load: float | None) -> tuple[CellSummary, ...]:
    """Return the cells of one policy at one load, by seed."""
    found = (cell for cell in cells if cell.policy == policy and cell.load == load)
    return tuple(sorted(found, key=lambda cell: cell.seed))


def pooled(cells: Sequence[CellSummary], metric: str) -> Interval:
    """Return the mean over seeds; with a 95 % interval over seeds, or over blocks if there is but one seed.

    Undefined in one seed is undefined: leaving that seed out would compare different traffic.
    """
    values = [cell.metrics[metric] for cell in cells]
    defined = [value for value in values if value is not None]
    if not defined or len(defined) < len(values):
        return Interval(None)
    if len(cells) == 1 and metric in cells[0].blocks:
        sums = cells[0].blocks[metric]
        ones = np.ones(len(sums))
        within = ratio_interval(sums, Sums(ones, ones), serial=True)
        return Interval(defined[0], within.low, within.high)
    return mean_interval(np.array(defined))
