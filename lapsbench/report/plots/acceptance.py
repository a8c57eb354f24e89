"""How soon a request's own rounds tell its acceptance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from lapsbench.metrics.estimates import ALL, BOTH, LEAST_LEFT, OWN, SAMPLE
from lapsbench.report.plots import kinds
from lapsbench.report.plots.kinds import Look
from lapsbench.report.plots.panel import Panel, Section, Subject
from lapsbench.report.plots.styles import BLUE, GREEN, INK, Style

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DRAWN = {OWN: Style(BLUE), ALL: Style(INK), BOTH: Style(GREEN)}
COLUMNS = (("error_p50", "half of the requests are within"), ("error_p90", "90 % of the requests are within"))


def acceptance(subjects: Sequence[Subject], *, alone: bool) -> Iterator[Section]:
    """Show the error of three estimates after so many rounds; nothing where a run kept none."""
    look = Look(DRAWN, alone)
    panels = []
    for each in subjects:
        rows = [row | {"policy": row["estimate"]} for row in each.run.saved.estimates()]
        for column, name in COLUMNS if rows else ():
            x = alt.X("rounds:Q", title="rounds done", scale=alt.Scale(type="log", nice=False), axis=kinds.plain(",~r"))
            y = kinds.Axis(column, "error", "%", log=False)
            told = [
                alt.Tooltip("rounds:Q", title="after rounds"),
                alt.Tooltip("error_p50:Q", format=".1%", title="half are within"),
                alt.Tooltip("error_p90:Q", format=".1%", title="90 % are within"),
                alt.Tooltip("requests:Q", format=","),
            ]
            spec = kinds.over(rows, look, x, y, told, f"Error of acceptance estimates: {each.called(name)}")
            panels.append(Panel(each.called(name), spec, key=column == "error_p50"))
    if panels:
        yield Section(
            "acceptance",
            "How soon acceptance is known",
            "only where a request's own rounds come below the mean of all has watching it told a scheduler anything.",
            panels,
            look,
            tuple(DRAWN),
            "Relative error of estimated tokens per round, against what the rounds still to come bring. First seed, up "
            f"to {SAMPLE:,} requests with {LEAST_LEFT} or more rounds left. Fixed before any policy runs.",
        )
