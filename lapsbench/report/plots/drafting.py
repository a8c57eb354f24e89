"""How many drafts ran at which size of batch, and for how much of the time, where drafts vary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.metrics.drafting import pooled_s
from lapsbench.metrics.pool import policies, select
from lapsbench.report.plots import kinds
from lapsbench.report.plots.curves import short
from lapsbench.report.plots.panel import Panel, Section, Subject, at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.report.plots.kinds import Look, Row

COLUMNS = 64
"""Sizes of batch side by side at most; beyond that neighbours share one."""


def drafting(subjects: Sequence[Subject], look: Look) -> Iterator[Section]:
    """Show every policy of every run whose drafts vary."""
    panels = [panel for each in subjects if each.run.result.engine.drafts for panel in _panels(each, look)]
    if panels:
        yield Section(
            "drafting",
            "Drafts by size of batch",
            "darker took more of the time: stairs down to the right are a schedule at work, a tall column is a "
            "controller of many minds.",
            panels,
            look,
            note="Drafts are the mean over the requests that did a round in a step, to the nearest whole number.",
        )


def _panels(subject: Subject, look: Look) -> Iterator[Panel]:
    result, focus = subject.run.result, subject.curves.focus
    for policy in policies(result.cells):
        if rows := list(_rows(pooled_s(cell.by_drafts_s for cell in select(result.cells, policy, focus)))):
            label = subject.label(policy)
            title = subject.called(f"{result.engine.drafts} under {label}", at(focus))
            spec = kinds.heat(rows, look, label, f"Drafts by size of batch, {title}")
            yield Panel(title, spec, key=policy == result.baseline)


def _rows(time_s: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Iterator[Row]:
    used = np.flatnonzero(time_s.any(axis=1))
    if not len(used):
        return
    last, whole = int(used[-1]), float(time_s.sum())
    wide = -(-last // COLUMNS)
    for first in range(1, last + 1, wide):
        most = min(first + wide - 1, last)
        for drafts, mine in enumerate(time_s[first : most + 1].sum(axis=0).tolist()):
            if mine > 0:
                yield {"first": first, "last": most, "drafts": drafts, "share": short(mine / whole)}
