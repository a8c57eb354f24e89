"""A kind of plot: two metrics against each other, a point a policy, with a frontier and a line of variants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from lapsbench.report.plots.kinds import ROWS, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.report.plots.kinds import Look, Row, Spec

LOG = alt.Scale(type="log", nice=False, padding=14)
NAME = alt.Tooltip("policy:N")
NUMBERS = [alt.Tooltip(f"{name}:Q", format=",.4~r", title=f"{name} JCT, s") for name in ("mean", "p99")]


def against(rows: Sequence[Row], look: Look, description: str) -> Spec:
    """Draw mean against p99.

    Rows are of a `kind`: policy, real or not, with the ends of its intervals; frontier; line, with its patience. A kind
    without rows has no layer: Vega would warn of it on the console.
    """
    policies = [row for row in rows if row["kind"] == "policy"]
    x = alt.X("p99:Q", title="p99 JCT, s", scale=LOG, axis=plain(",~r"))
    y = alt.Y("mean:Q", title="mean JCT, s", scale=LOG, axis=plain(",~r"))
    base = alt.Chart(ROWS).encode(x=x, y=y, color=look.colour(policies))
    of = {kind: base.transform_filter(f"datum.kind == '{kind}'") for kind in ("policy", "frontier", "line")}
    there = {row["kind"] for row in rows}
    layers = list(_frontier(of["frontier"], look)) if "frontier" in there else []
    layers += _line(of["line"]) if "line" in there else []
    layers += _points(of["policy"], sorted({row["real"] for row in policies}))
    return look.finish(alt.layer(*layers), rows, 300, description)


def _frontier(chart: alt.Chart, look: Look) -> Iterator[alt.Chart]:
    ink = alt.value(look.ink)
    yield chart.mark_line(strokeWidth=1.5, strokeDash=[5, 4], opacity=0.6).encode(order="p99:Q", color=ink)
    yield chart.mark_text(align="left", dx=8, dy=-8, fontSize=11).encode(text="policy:N", color=ink)


def _line(chart: alt.Chart) -> Iterator[alt.Chart]:
    patience = alt.Tooltip("patience_s:Q", format=",.3~r", title="patience, s")
    yield chart.mark_line(strokeWidth=1.5, opacity=0.7).encode(order="patience_s:Q")
    yield chart.mark_point(size=18, filled=True).encode(tooltip=[NAME, patience, *NUMBERS])


def _points(chart: alt.Chart, real: Sequence[bool]) -> Iterator[alt.Chart]:
    """Yield the intervals, then the points: hollow where it is no choice."""
    across: dict[str, Any] = {"x": alt.X("p99_low:Q", scale=LOG), "x2": alt.X2("p99_high:Q")}
    upright: dict[str, Any] = {"y": alt.Y("mean_low:Q", scale=LOG), "y2": alt.Y2("mean_high:Q")}
    for ends in (across, upright):
        yield chart.mark_rule(strokeWidth=2, opacity=0.45).encode(**ends)
    for each in real:
        some = chart.transform_filter(f"datum.real == {str(each).lower()}")
        yield some.mark_point(filled=each, size=80, opacity=1, strokeWidth=2).encode(tooltip=[NAME, *NUMBERS])
