"""What knowing lengths, and then acceptance, was worth: fcfs to one oracle to the other, as steps of mean JCT."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from lapsbench.metrics.comparison import ratio
from lapsbench.metrics.pool import loads, pooled, select
from lapsbench.metrics.wording import seconds
from lapsbench.metrics.worth import BLIND, LENGTHS, ROUNDS
from lapsbench.report.plots import kinds
from lapsbench.report.plots.panel import Panel, Section, Subject, at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.report.plots.kinds import Look, Row

LADDER = (BLIND, LENGTHS, ROUNDS)
BOUGHT = {LENGTHS: "knowing lengths", ROUNDS: "knowing acceptance too"}


def worth(subjects: Sequence[Subject], look: Look) -> Section:
    """Show the steps at every load, the details' load first."""
    panels = []
    for each in subjects:
        focus = each.curves.focus
        for load in sorted(loads(each.run.result.cells), key=lambda load: load != focus):
            if rows := _steps(each, load):
                title = each.called("mean JCT", at(load))
                spec = kinds.waterfall(rows, look, "mean JCT, s", f"Steps from fcfs to the oracles, {title}")
                panels.append(Panel(title, spec, key=load == focus))
    note = "" if panels else f"Not shown: it takes {', '.join(LADDER)} in one run."
    return Section(
        "worth",
        "What knowing was worth",
        "the coloured steps are all that perfect knowledge could save: green saves, red costs.",
        panels,
        look,
        note=note,
    )


def _steps(subject: Subject, load: float | None) -> list[Row]:
    cells = [cell for cell in subject.run.result.cells if cell.load == load]
    levels = [pooled(select(cells, policy, load), "jct_mean_s").value for policy in LADDER]
    if None in levels:
        return []
    known = [level for level in levels if level is not None]
    rows = [_row(subject.label(BLIND), 0.0, known[0], "total", seconds(known[0]))]
    for (before, after), (high, low) in zip(pairwise(LADDER), pairwise(known), strict=True):
        share = ratio(cells, after, before, load)
        text = "" if share.ratio is None else f"{round(100 * (share.ratio - 1), 1) + 0.0:+.1f} %"
        rows.append(_row(BOUGHT[after], high, low, "gain" if low <= high else "loss", text))
        rows.append(_row(subject.label(after), 0.0, low, "total", seconds(low)))
    return rows


def _row(step: str, start: float, end: float, kind: str, text: str) -> Row:
    return {"step": step, "from": start, "to": end, "right": max(start, end), "kind": kind, "text": text}
