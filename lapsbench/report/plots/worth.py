"""What lengths, prompts and acceptance were worth, from fcfs to the oracles, as steps of mean JCT."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from lapsbench.metrics.comparison import ratio
from lapsbench.metrics.pool import loads, policies, pooled, select
from lapsbench.metrics.wording import seconds
from lapsbench.metrics.worth import BLIND, LENGTHS, ROUNDS
from lapsbench.report.plots import kinds
from lapsbench.report.plots.panel import Panel, Section, Subject, at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.report.plots.kinds import Look, Row

Ladder = tuple[tuple[str, str], ...]
COUNTED: Ladder = (("oracle-work-tokens", "exact lengths"), ("oracle-work-rounds", "knowing acceptance too"))
LADDERS: tuple[Ladder, ...] = (
    (("sjf", "lengths as predicted"), ("work", "counting the prompt"), *COUNTED),
    (("work", "predicted lengths, prompts"), *COUNTED),
    (("oracle-work-tokens", "lengths, prompts"), COUNTED[1]),
    ((LENGTHS, "knowing lengths"), (ROUNDS, "knowing acceptance too")),
)
"""From fcfs on: a policy, and what it has that the one before has not. The first that was replayed is shown."""


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
    note = "" if panels else f"Not shown: it takes {BLIND}, oracle-work-tokens, oracle-work-rounds in one run."
    return Section(
        "worth",
        "What knowing was worth",
        "a coloured step is what the words beside it were worth: green saves, red costs.",
        panels,
        look,
        note=note,
    )


def _steps(subject: Subject, load: float | None) -> list[Row]:
    cells = [cell for cell in subject.run.result.cells if cell.load == load]
    means = {policy: pooled(select(cells, policy, load), "jct_mean_s").value for policy in policies(cells)}
    ladder = next((each for each in LADDERS if all(means.get(name) for name in (BLIND, *dict(each)))), ())
    names = [BLIND, *dict(ladder)]
    known = [level for name in names if (level := means.get(name)) is not None]
    if not ladder:
        return []
    rows = [_row(subject.label(BLIND), 0.0, known[0], "total", seconds(known[0]))]
    for (before, after), (high, low) in zip(pairwise(names), pairwise(known), strict=True):
        share = ratio(cells, after, before, load)
        text = "" if share.ratio is None else f"{round(100 * (share.ratio - 1), 1) + 0.0:+.1f} %"
        rows.append(_row(dict(ladder)[after], high, low, "gain" if low <= high else "loss", text))
        rows.append(_row(subject.label(after), 0.0, low, "total", seconds(low)))
    return rows


def _row(step: str, start: float, end: float, kind: str, text: str) -> Row:
    return {"step": step, "from": start, "to": end, "right": max(start, end), "kind": kind, "text": text}
