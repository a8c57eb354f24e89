"""How a metric changes: with load, with the size of a request; and what preempting cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from lapsbench.metrics.pool import loads, policies, pooled, select
from lapsbench.report.plots import kinds
from lapsbench.report.plots.panel import Panel, Section, Subject, at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.report.plots.kinds import Look, Row


def against_load(subjects: Sequence[Subject], look: Look) -> Section:
    """Show mean and p99 of JCT against load, with intervals."""
    panels, every = [], []
    for each in subjects:
        for metric, name in (("jct_mean_s", "mean JCT, s"), ("jct_p99_s", "p99 JCT, s")):
            rows = _against_load(each, metric)
            every += rows
            if rows:
                x = alt.X("load:Q", title="load", scale=alt.Scale(zero=False, padding=12), axis=kinds.plain(",~r"))
                told = [
                    alt.Tooltip("load:Q"),
                    alt.Tooltip("value:Q", format=",.4~r", title=name),
                    alt.Tooltip("low:Q", format=",.4~r", title="95 % from"),
                    alt.Tooltip("high:Q", format=",.4~r", title="to"),
                ]
                spec = kinds.over(rows, look, x, kinds.Axis("value", name), told, f"{name} against load")
                panels.append(Panel(each.called(name), spec, key=metric == "jct_mean_s"))
    return Section(
        "load",
        "Latency against load",
        "where a curve bends up, that scheduler runs out of room; bars are 95 % intervals.",
        panels,
        look,
        look.names(every),
    )


def slowdown(subjects: Sequence[Subject], look: Look) -> Section:
    """Show mean and p99 of slowdown by size of request."""
    panels, every = [], []
    for each in subjects:
        rows = each.labelled(each.curves.slowdown)
        every += rows
        for statistic in ("mean", "p99") if rows else ():
            x = alt.X("class:O", title="size: 1 the smallest tenth, 10 the largest", axis=alt.Axis(labelAngle=0))
            told = [
                alt.Tooltip("class:O", title="size"),
                alt.Tooltip("low_s:Q", title="alone from s"),
                alt.Tooltip("high_s:Q", title="to s"),
                alt.Tooltip("mean:Q", title="mean slowdown"),
                alt.Tooltip("p99:Q", title="p99 slowdown"),
                alt.Tooltip("requests:Q", format=","),
            ]
            title = each.called(f"{statistic} slowdown", at(each.curves.focus))
            y = kinds.Axis(statistic, f"{statistic} slowdown, x")
            spec = kinds.over(rows, look, x, y, told, f"{title}, by size of request")
            panels.append(Panel(title, spec, key=statistic == "mean"))
    return Section(
        "slowdown",
        "Who pays",
        "a flat line treats small and large alike; one that climbs lets large requests pay for small ones.",
        panels,
        look,
        look.names(every),
        "Slowdown is JCT over the JCT the request would have alone on an idle engine; size is that time alone.",
    )


def preemptions(subjects: Sequence[Subject], look: Look) -> Section:
    """Show preemptions and recomputed tokens."""
    panels = []
    for each in subjects:
        for metric, name in (
            ("preemptions_per_request", "preemptions per request"),
            ("recomputed_tokens", "recomputed tokens, mean over seeds"),
        ):
            rows = _bars(each, metric)
            if any(row["value"] for row in rows):
                title = each.called(name, at(each.curves.focus))
                panels.append(Panel(title, kinds.bars(rows, look, name, title)))
    nothing = "No request was preempted, and no token computed twice."
    return Section(
        "preemptions",
        "What preempting cost",
        "a long bar is work done twice or caches moved about: worth it only for latency won above.",
        panels,
        look,
        note="" if panels else nothing,
    )


def _against_load(subject: Subject, metric: str) -> list[Row]:
    cells = subject.run.result.cells
    rows: list[Row] = []
    for policy in policies(cells):
        for load in loads(cells):
            found = pooled(select(cells, policy, load), metric) if load is not None else None
            if found and found.value is not None:
                low = found.low if found.low and found.low > 0 else None  # a log axis has no 0
                label = subject.label(policy)
                rows.append({"policy": label, "load": load, "value": found.value, "low": low, "high": found.high})
    return rows


def _bars(subject: Subject, metric: str) -> list[Row]:
    cells = subject.run.result.cells
    found = {policy: pooled(select(cells, policy, subject.curves.focus), metric).value for policy in policies(cells)}
    return subject.labelled(
        [{"policy": policy, "value": value} for policy, value in found.items() if value is not None]
    )
