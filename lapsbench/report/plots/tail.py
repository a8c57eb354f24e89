"""The choice as a picture: mean against p99 of JCT, a point a policy, and the frontier that nothing beats in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.metrics.choice import grows
from lapsbench.metrics.pool import loads, policies, pooled, select
from lapsbench.report.plots.panel import Panel, Section, Subject, at
from lapsbench.report.plots.scatter import against

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.report.plots.kinds import Look, Row

PATIENT = "work-patient"
NOTE = "The dashed line joins those that no other beats in both. Hollow: no choice, for an oracle, or does not keep up."
LINE = " The thin line is work-patient over five values of its patience, at the first seed."


def tail(subjects: Sequence[Subject], look: Look) -> Section:
    """Show every load, the details' load first."""
    panels, every, lined = [], [], False
    for each in subjects:
        focus = each.curves.focus
        for load in sorted(loads(each.run.result.cells), key=lambda load: load != focus):
            points = list(_points(each, load))
            line = list(_line(each, load)) if points else []
            lined = lined or bool(line)
            every += points
            if len(points) > 1:
                title = each.called("mean against p99 of JCT", at(load))
                spec = against([*points, *_frontier(points), *line], look, f"{title}, a point a policy")
                panels.append(Panel(title, spec, key=load == focus))
    return Section(
        "choice",
        "Mean against tail",
        "lower is a faster mean, further left a shorter tail; bars are 95 % intervals.",
        panels,
        look,
        look.names(every),
        f"{NOTE}{LINE if lined else ''}"
        if panels
        else "Not shown: it takes two schedulers that finish their requests.",
    )


def _points(subject: Subject, load: float | None) -> Iterator[Row]:
    cells = subject.run.result.cells
    for policy in policies(cells):
        mine = select(cells, policy, load)
        mean, p99 = (pooled(mine, name) for name in ("jct_mean_s", "jct_p99_s"))
        if not mine or any(cell.unfinished for cell in mine) or not mean.value or not p99.value:
            continue
        ends = {
            name: end if end is not None and end > 0 else value
            for name, end, value in (
                ("mean_low", mean.low, mean.value),
                ("mean_high", mean.high, mean.value),
                ("p99_low", p99.low, p99.value),
                ("p99_high", p99.high, p99.value),
            )
        }
        where = {"kind": "policy", "policy": mine[0].label, "mean": mean.value, "p99": p99.value}
        yield where | ends | {"real": not mine[0].oracle and not grows(mine)}


def _frontier(points: Sequence[Row]) -> Iterator[Row]:
    """Yield, from the shortest tail on, whoever has a lower mean than all before."""
    least = float("inf")
    for each in sorted((row for row in points if row["real"]), key=lambda row: (row["p99"], row["mean"])):
        if each["mean"] < least:
            least = each["mean"]
            yield {"kind": "frontier", "policy": each["policy"], "mean": each["mean"], "p99": each["p99"]}


def _line(subject: Subject, load: float | None) -> Iterator[Row]:
    """Yield work-patient's means and tails, by patience; it is drawn as the policy is."""
    label = next((cell.label for cell in subject.run.result.cells if cell.policy.startswith(PATIENT)), "")
    for row in subject.run.saved.patience():
        if row["load"] == load and row["jct_mean_s"] and row["jct_p99_s"]:
            mean, p99 = row["jct_mean_s"], row["jct_p99_s"]
            yield {"kind": "line", "policy": label, "mean": mean, "p99": p99, "patience_s": row["patience_s"]}
