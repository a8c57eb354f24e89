"""Several runs in one table: a row per policy, a column per run, at the load whose details are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lapsbench.metrics.pool import policies, pooled, select
from lapsbench.report import units
from lapsbench.report.plots.curves import focus_of
from lapsbench.report.plots.panel import at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.reading import Run

METRICS = (("jct_mean_s", "JCT mean"), ("jct_p99_s", "JCT p99"))


@dataclass(frozen=True, slots=True)
class Beside:
    """A row per policy: its label, then a text per column; `heads` names the columns."""

    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


def side_by_side(runs: Sequence[Run]) -> Beside:
    """Put mean and p99 of JCT of every policy and run beside each other."""
    names = policies(cell for run in runs for cell in run.result.cells)
    heads, texts = [], []
    for metric, title in METRICS:
        columns = [[_value(run, name, metric) for name in names] for run in runs]
        unit, scale = units.time_unit([value for column in columns for value in column])
        for run, column in zip(runs, columns, strict=True):
            heads.append(", ".join(word for word in (f"{title} {unit}", run.name, at(focus_of(run))) if word))
            texts.append(units.column(column, scale))
    labels = {cell.policy: cell.label for run in runs for cell in run.result.cells}
    return Beside(heads, [(labels[name], [column[row] for column in texts]) for row, name in enumerate(names)])


def _value(run: Run, policy: str, metric: str) -> float | None:
    cells = select(run.result.cells, policy, focus_of(run))
    if not cells or any(cell.unfinished for cell in cells):  # what it left out were its slowest
        return None
    return pooled(cells, metric).value
