"""The rows of summary.parquet: every cell, every policy pooled over seeds, every ratio to the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lapsbench.metrics.catalog import BY_NAME, METRICS
from lapsbench.metrics.pool import loads, policies, pooled, select

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.metrics.catalog import Metric
    from lapsbench.metrics.comparison import Comparison
    from lapsbench.metrics.summary import CellSummary

COLUMNS = ("policy", "load", "seed", "metric", "statistic", "value", "low", "high", "n")
COUNTS = ("arrivals", "finished", "rejected", "unfinished", "measured", "warmup")

Row = tuple[str, float | None, int | None, str, str, float | None, float | None, float | None, int]


def summary_rows(cells: Sequence[CellSummary], comparisons: Sequence[Comparison]) -> dict[str, list[Any]]:
    """Return the columns of summary.parquet (`schema.SUMMARY`)."""
    rows = [*_cell_rows(cells), *_pooled_rows(cells), *_ratio_rows(comparisons)]
    return {name: [row[place] for row in rows] for place, name in enumerate(COLUMNS)}


def _cell_rows(cells: Sequence[CellSummary]) -> Iterator[Row]:
    for cell in cells:
        where = (cell.policy, cell.load, cell.seed)
        for name in COUNTS:
            count = getattr(cell, name)
            yield (*where, name, "count", float(count), None, None, count)
        if cell.approximate:
            yield (*where, "approximate", "flag", 1.0, None, None, cell.measured)
        for metric in METRICS:
            value = cell.metrics[metric.name]
            yield (*where, metric.quantity, metric.statistic, value, None, None, _base(cell, metric))


def _pooled_rows(cells: Sequence[CellSummary]) -> Iterator[Row]:
    for load in loads(cells):
        for policy in policies(cells):
            seeds = select(cells, policy, load)
            for metric in METRICS if seeds else ():
                found = pooled(seeds, metric.name)
                base = sum(_base(cell, metric) for cell in seeds)
                values = (found.value, found.low, found.high)
                yield (policy, load, None, metric.quantity, metric.statistic, *values, base)


def _ratio_rows(comparisons: Sequence[Comparison]) -> Iterator[Row]:
    for each in comparisons:
        metric = BY_NAME[each.metric]
        values = (each.ratio, each.low, each.high)
        yield (each.policy, each.load, None, metric.quantity, f"{metric.statistic}_ratio", *values, each.units)


def _base(cell: CellSummary, metric: Metric) -> int:
    """Return how many requests the metric rests on."""
    return cell.measured if metric.windowed else cell.arrivals
