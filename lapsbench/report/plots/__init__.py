"""The plots of a report, section by section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.metrics.pool import loads
from lapsbench.report.plots.acceptance import acceptance
from lapsbench.report.plots.busy import busy
from lapsbench.report.plots.distributions import jct, token_times
from lapsbench.report.plots.drafting import drafting
from lapsbench.report.plots.panel import Panel, Section, Subject, look_of
from lapsbench.report.plots.tail import tail
from lapsbench.report.plots.trends import against_load, preemptions, slowdown
from lapsbench.report.plots.worth import worth

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Panel", "Section", "Subject", "sections"]


def sections(subjects: Sequence[Subject], *, alone: bool = False) -> Iterator[Section]:
    """Build every section that has something to show; `alone` for pictures that no page surrounds."""
    look = look_of(subjects, alone=alone)
    yield tail(subjects, look)
    yield jct(subjects, look)
    if any(len(loads(each.run.result.cells)) > 1 for each in subjects):
        yield against_load(subjects, look)
    yield worth(subjects, look)
    yield slowdown(subjects, look)
    yield token_times(subjects, look)
    yield preemptions(subjects, look)
    yield from drafting(subjects, look)
    yield from acceptance(subjects, alone=alone)
    yield from busy(subjects, look)
