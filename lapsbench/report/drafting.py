"""What became of the drafts, by size of batch, for a run whose drafts vary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.metrics.drafting import drafted
from lapsbench.metrics.pool import select
from lapsbench.report.table_columns import Column
from lapsbench.report.units import UNDEFINED

if TYPE_CHECKING:
    from lapsbench.metrics.result import ReplayResult


def title(result: ReplayResult) -> str:
    """Say whose drafts the table is of."""
    return f"drafts by requests that draft together, under {result.baseline}"


def columns(result: ReplayResult, load: float | None) -> list[Column]:
    """Return the table's columns, pooled over seeds; nothing where drafts do not vary, or nothing is known."""
    if not result.engine.drafts:
        return []
    rows = drafted(cell.by_batch for cell in select(result.cells, result.baseline, load))
    if not rows:
        return []
    spans = ["all", *(f"{row.first}-{row.last}" if row.first < row.last else f"{row.first}" for row in rows[1:])]
    return [
        Column(("", "batch"), spans),
        Column(("share", "of time"), [_percent(row.step_fraction) for row in rows]),
        Column(("drafts", "a round"), [f"{row.drafts_per_round:.2f}" for row in rows]),
        Column(("accepted", "a round"), [f"{row.accepted_per_round:.2f}" for row in rows]),
        Column(("wasted", "drafts"), [_percent(row.wasted_fraction) for row in rows]),
        Column(("time", "drafting"), [_percent(row.time_fraction) for row in rows]),
    ]


def _percent(share: float | None) -> str:
    return UNDEFINED if share is None else f"{100 * share:.0f} %"
