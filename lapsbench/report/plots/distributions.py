"""Distributions over requests: latency, first token, the pace of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.metrics.pool import loads
from lapsbench.report.plots import kinds
from lapsbench.report.plots.panel import Panel, Section, Subject, at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.report.plots.kinds import Look, Row


def jct(subjects: Sequence[Subject], look: Look) -> Section:
    """Show the distribution of JCT at every load."""
    panels, every = [], []
    for each in subjects:
        focus = each.curves.focus
        for load in loads(each.run.result.cells):
            rows = _of(each, "jct_s", load)
            every += rows
            if rows:
                title = each.called("JCT", at(load))
                spec = kinds.distribution(rows, look, "JCT, s", f"Share of requests by latency, {title}")
                panels.append(Panel(title, spec, key=load == focus))
    return Section(
        "jct",
        "How long requests take",
        "the further left, the faster; where curves cross, a policy pays for its fast majority with its slow tail.",
        panels,
        look,
        look.names(every),
        "JCT is finish minus arrival, of the measured requests of all seeds, drawn to the 99.9th percentile.",
    )


def token_times(subjects: Sequence[Subject], look: Look) -> Section:
    """Show the distributions of TTFT and TPOT."""
    panels, every = [], []
    for each in subjects:
        for quantity, name in (("ttft_s", "TTFT"), ("tpot_s", "TPOT")):
            rows = _of(each, quantity, each.curves.focus)
            every += rows
            if rows:
                title = each.called(name, at(each.curves.focus))
                spec = kinds.distribution(rows, look, f"{name}, s", f"Share of requests, {title}")
                panels.append(Panel(title, spec))
    return Section(
        "tokens",
        "The first token, and the pace of the rest",
        "TTFT is the wait until anything shows, TPOT the seconds per token after it; preempting may trade them.",
        panels,
        look,
        look.names(every),
    )


def _of(subject: Subject, quantity: str, load: float | None) -> list[Row]:
    rows = [
        {"policy": row["policy"], "share": row["share"], "value": row["value"]}
        for row in subject.curves.distributions
        if row["quantity"] == quantity and row["load"] == load and row["value"] > 0  # a log axis has no 0
    ]
    return subject.labelled(rows)
