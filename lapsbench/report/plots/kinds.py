"""The kinds of plot, as Vega-Lite: a distribution, a metric over an axis, bars, steps of a sum, bars over time.

Knows rows and looks; knows nothing of runs. A page's plots take the ink of the page and the width of their box; a
picture that stands alone brings its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import altair as alt

from lapsbench.report.plots.styles import INK, Style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Drawing = alt.Chart | alt.LayerChart | alt.FacetChart
Row = dict[str, Any]
Spec = dict[str, Any]

FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
ROWS = alt.NamedData("rows")
PAPER = "#1f2328"
"""Ink of a picture that stands alone, on white."""


@dataclass(frozen=True, slots=True)
class Look:
    """How policies are told apart (label -> style), and whether the picture stands alone."""

    styles: Mapping[str, Style]
    alone: bool = False

    @property
    def ink(self) -> str:
        """The colour of text and axes."""
        return PAPER if self.alone else INK

    @property
    def legend(self) -> alt.Legend | None:
        """A page has one legend for all plots of a section."""
        return alt.Legend(orient="bottom", title=None, columns=3, symbolStrokeWidth=2.5) if self.alone else None

    def colour(self, rows: Sequence[Row], *, told: bool = False) -> alt.Color:
        """Colour by policy; without a legend where an axis has `told` which is which."""
        names = self.names(rows)
        colours = [self.ink if self.styles[name].colour == INK else self.styles[name].colour for name in names]
        return alt.Color(
            "policy:N",
            sort=names,
            scale=alt.Scale(domain=names, range=colours),
            legend=None if told else self.legend,
        )

    def dash(self, rows: Sequence[Row]) -> alt.StrokeDash:
        """Dash by policy."""
        names = self.names(rows)
        dashes = [list(self.styles[name].dash) for name in names]
        return alt.StrokeDash("policy:N", sort=names, scale=alt.Scale(domain=names, range=dashes), legend=self.legend)

    def names(self, rows: Sequence[Row]) -> list[str]:
        """Return the policies of the rows in the order of the legend."""
        there = {row["policy"] for row in rows}
        return [name for name in self.styles if name in there]

    def finish(self, chart: Drawing, rows: Sequence[Row], height: int, description: str) -> Spec:
        """Return the specification."""
        sized = chart.properties(
            width=460 if self.alone else "container",
            height=height,
            description=description,
            background="white" if self.alone else "transparent",
            autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        )
        spec: Spec = sized.to_dict()
        # the rows only now: Altair would hold every one against its schema
        return spec | {"config": spec["config"] | self._config(), "datasets": {"rows": list(rows)}}

    def _config(self) -> Spec:
        text = {"labelColor": self.ink, "titleColor": self.ink, "titleFontWeight": "normal", "labelFontSize": 11}
        grid = {"gridColor": self.ink, "gridOpacity": 0.12}
        lines = {"domainColor": self.ink, "domainOpacity": 0.4, "tickColor": self.ink, "tickOpacity": 0.4}
        return {
            "font": FONT,
            "axis": text | grid | lines | {"titleFontSize": 12, "labelOverlap": True},
            "legend": text | {"labelLimit": 200},
            "view": {"stroke": None},
        }


def plain(format_: str) -> alt.Axis:
    """Return an axis of few ticks."""
    return alt.Axis(format=format_, tickCount=5)


@dataclass(frozen=True, slots=True)
class Axis:
    """A y axis: the column it shows, its title, how numbers are written (d3), whether it is logarithmic."""

    column: str
    title: str
    numbers: str = ",~r"
    log: bool = True

    def of(self, column: str) -> alt.Y:
        """Return the channel for one column."""
        scale = alt.Scale(type="log", nice=False, padding=8) if self.log else alt.Scale()
        return alt.Y(f"{column}:Q", title=self.title, scale=scale, axis=plain(self.numbers))


def distribution(rows: Sequence[Row], look: Look, axis: str, description: str) -> Spec:
    """Draw the share of requests (rows: policy, value, share) that took at most so long."""
    base = alt.Chart(ROWS).encode(
        x=alt.X("value:Q", scale=alt.Scale(type="log", nice=False), title=axis, axis=plain(",~r")),
        y=alt.Y("share:Q", title="share of requests", axis=plain("%")),
        color=look.colour(rows),
    )
    told = [
        alt.Tooltip("share:Q", format=".1~%", title="of requests within"),
        alt.Tooltip("value:Q", format=",.3~r", title=axis),
    ]
    return look.finish(_lines(base, rows, look, told, dots=False), rows, 240, description)


def over(rows: Sequence[Row], look: Look, x: alt.X, y: Axis, told: Sequence[alt.Tooltip], description: str) -> Spec:
    """Draw lines through a point per x, with an interval where the rows have low and high."""
    base = alt.Chart(ROWS).encode(x=x, y=y.of(y.column), color=look.colour(rows))
    lines: Drawing = _lines(base, rows, look, told, dots=True)
    if any(row.get("low") is not None for row in rows):
        ends = base.mark_rule(strokeWidth=2, opacity=0.45).encode(y=y.of("low"), y2=alt.Y2("high:Q"))
        lines = alt.layer(ends, lines)
    return look.finish(lines, rows, 240, description)


def stepped(rows: Sequence[Row], look: Look, y: str, title: str, description: str) -> Spec:
    """Draw what holds from one instant to the next (rows: policy, time_s)."""
    rows = [{name: row[name] for name in ("policy", "time_s", y)} for row in rows]  # a page has room for no more
    base = alt.Chart(ROWS).encode(
        x=alt.X("time_s:Q", title="seconds into the window", scale=alt.Scale(nice=False)),
        y=alt.Y(f"{y}:Q", title=title),
        color=look.colour(rows),
    )
    told = [alt.Tooltip("time_s:Q", format=".1f", title="second"), alt.Tooltip(f"{y}:Q", title=title)]
    return look.finish(_lines(base, rows, look, told, dots=False, step=True), rows, 200, description)


def bars(rows: Sequence[Row], look: Look, title: str, description: str) -> Spec:
    """Draw one bar per policy (rows: policy, value)."""
    chart = (
        alt.Chart(ROWS)
        .mark_bar(height={"band": 0.7})
        .encode(
            y=alt.Y("policy:N", sort=look.names(rows), title=None, axis=alt.Axis(labelLimit=170)),
            x=alt.X("value:Q", title=title, axis=plain(",~r" if max(row["value"] for row in rows) < 10_000 else "~s")),
            color=look.colour(rows, told=True),
            tooltip=[alt.Tooltip("policy:N"), alt.Tooltip("value:Q", format=",.4~r", title=title)],
        )
    )
    return look.finish(chart, rows, 24 * len(rows) + 45, description)


def waterfall(rows: Sequence[Row], look: Look, title: str, description: str) -> Spec:
    """Draw steps from one total to the next (rows: step, from, to, kind (total | worth), text)."""
    order = [row["step"] for row in rows]
    room = 1.25 * max(row["right"] for row in rows)  # for the words
    base = alt.Chart(ROWS).encode(
        y=alt.Y("step:N", sort=order, title=None, axis=alt.Axis(labelLimit=190)),
        tooltip=[alt.Tooltip("step:N"), alt.Tooltip("text:N", title=title)],
    )
    kinds = alt.Scale(domain=["total", "gain", "loss"], range=["#8A8A8A", "#009E73", "#D55E00"])
    boxes = base.mark_bar(height={"band": 0.7}).encode(
        x=alt.X("from:Q", title=title, scale=alt.Scale(domain=[0, room]), axis=plain(",~r")),
        x2=alt.X2("to:Q"),
        color=alt.Color("kind:N", scale=kinds, legend=None),
    )
    words = base.mark_text(align="left", dx=5, color=look.ink, fontSize=11).encode(x=alt.X("right:Q"), text="text:N")
    return look.finish(alt.layer(boxes, words), rows, 34 * len(rows) + 45, description)


def heat(rows: Sequence[Row], look: Look, policy: str, description: str) -> Spec:
    """Draw shares of the time (rows: first, last requests that draft together, drafts, share): the more, the darker."""
    style = look.styles[policy]
    requests, drafts = max(row["last"] for row in rows), max(row["drafts"] for row in rows)
    share = alt.Scale(type="sqrt", domain=[0, max(row["share"] for row in rows)], range=[0.08, 1.0])
    whole = alt.Axis(format="d", tickMinStep=1, grid=False)
    chart = (
        alt.Chart(ROWS)
        .mark_rect(color=look.ink if style.colour == INK else style.colour)
        .transform_calculate(left="datum.first - 0.5", right="datum.last + 0.5")
        .transform_calculate(under="datum.drafts - 0.5", over="datum.drafts + 0.5")
        .encode(
            x=alt.X("left:Q", title="requests that draft together", scale=_between(0.5, requests + 0.5), axis=whole),
            x2=alt.X2("right:Q"),
            y=alt.Y("under:Q", title="drafts a round", scale=_between(-0.5, drafts + 0.5), axis=whole),
            y2=alt.Y2("over:Q"),
            opacity=alt.Opacity("share:Q", scale=share, legend=None),
            tooltip=[
                alt.Tooltip("first:Q", title="requests from"),
                alt.Tooltip("last:Q", title="to"),
                alt.Tooltip("drafts:Q", title="drafts a round"),
                alt.Tooltip("share:Q", format=".3~%", title="of the time"),
            ],
        )
    )
    return look.finish(chart, rows, 200, description)


def _between(low: float, high: float) -> alt.Scale:
    return alt.Scale(domain=[low, high], nice=False, zero=False)


def gantt(rows: Sequence[Row], look: Look, policy: str, span_s: float, description: str) -> Spec:
    """Draw one request a line (rows: request, phase, from_s, to_s, tokens): waiting pale, being served full."""
    style = look.styles[policy]
    colour = look.ink if style.colour == INK else style.colour
    chart = (
        alt.Chart(ROWS)
        .mark_bar(color=colour, height={"band": 0.75})
        .encode(
            x=alt.X("from_s:Q", title="seconds into the window", scale=alt.Scale(domain=[0, span_s])),
            x2=alt.X2("to_s:Q"),
            y=alt.Y("request:O", title="request, by arrival", axis=alt.Axis(labels=False, ticks=False, grid=False)),
            opacity=alt.Opacity(
                "phase:O", scale=alt.Scale(domain=["waiting", "served"], range=[0.22, 0.9]), legend=look.legend
            ),
            tooltip=[
                alt.Tooltip("request:O"),
                alt.Tooltip("tokens:Q", title="output tokens"),
                alt.Tooltip("phase:O"),
                alt.Tooltip("from_s:Q", format=".2f", title="from s"),
                alt.Tooltip("to_s:Q", format=".2f", title="to s"),
            ],
        )
    )
    return look.finish(chart, rows, 260, description)


def _lines(
    base: alt.Chart, rows: Sequence[Row], look: Look, told: Sequence[alt.Tooltip], *, dots: bool, step: bool = False
) -> Drawing:
    lines: Drawing = base.mark_line(strokeWidth=2, interpolate="step-after" if step else "linear").encode(
        strokeDash=look.dash(rows)
    )
    if look.alone and not dots:
        return lines
    # invisible points are what one hovers over: a line would tell its first value everywhere
    points = base.mark_point(filled=True, size=45, opacity=1.0 if dots else 0.0).encode(
        tooltip=[alt.Tooltip("policy:N"), *told]
    )
    return alt.layer(lines, points)
