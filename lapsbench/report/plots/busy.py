"""One busy window: how many waited, how full the batch was, who was served when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.metrics.pool import policies
from lapsbench.report.plots import kinds
from lapsbench.report.plots.panel import Panel, Section, Subject, at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.report.plots.kinds import Look
    from lapsbench.report.plots.timeline import Timeline

KEPT = (
    "A run keeps when a request was admitted and when it finished, not each step: the pauses of a preempted request "
    "lie inside its full bar. Those preempted count as waiting."
)


def busy(subjects: Sequence[Subject], look: Look) -> Iterator[Section]:
    """Show the window of every run that has one."""
    panels, every, notes = [], [], []
    for each in subjects:
        if window := each.curves.timeline:
            states = each.labelled(window.states)
            every += states
            places = "places taken in the batch" if window.exact else "places taken in the batch, at most"
            for column, name, axis in (("waiting", "requests waiting", "requests"), ("batch", places, "places")):
                spec = kinds.stepped(states, look, column, axis, f"{name} over time")
                panels.append(Panel(each.called(name), spec))
            panels += _bars(each, window, look)
            notes.append(_which(each, window))
    if panels:
        yield Section(
            "busy",
            "A busy moment",
            "pale is waiting for a first step, full is from there to the end: a few long bars, or many short ones?",
            panels,
            look,
            look.names(every),
            " ".join([*notes, KEPT]),
        )


def _bars(subject: Subject, window: Timeline, look: Look) -> Iterator[Panel]:
    for policy in policies(subject.run.result.cells):
        label = subject.label(policy)
        rows = [row for row in window.bars if row["policy"] == policy]
        told = f"When each of {len({row['request'] for row in rows})} requests waited and was served under {label}"
        yield Panel(subject.called(label), kinds.gantt(rows, look, label, window.span_s, told))


def _which(subject: Subject, window: Timeline) -> str:
    where = subject.called(at(subject.curves.focus), f"seed {window.seed}")
    baseline = subject.label(subject.run.result.baseline)
    when = f"{window.span_s:.3g} s from second {window.start_s:,.0f}"
    text = f"{where}: {when}, where most requests were live under {baseline}."
    return text[0].upper() + text[1:]
