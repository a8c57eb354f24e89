"""The settings of a tuning as a picture: what is minimised against what is limited, and whom nothing beats in both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import altair as alt
import vl_convert

from lapsbench.report.plots.kinds import ROWS, Look, plain
from lapsbench.report.plots.styles import styles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.report.plots.kinds import Row


def frontier_svg(
    points: Sequence[Row], x_title: str, y_title: str, limit: float | None, today: float | None, best: Row | None
) -> str:
    """Draw settings as a picture that stands alone.

    Args:
        points: `policy`, `setting` in words, `x` and `y`, as ratios to today's; `fits`: whether all limits are kept.
        x_title: what x is.
        y_title: what y is.
        limit: of x; None: nothing is limited.
        today: x of today's setting; None: it is not known.
        best: the point that was chosen.
    """
    look = Look(styles(row["policy"] for row in points), alone=True)
    rows = [{"kind": "setting", **row} for row in points]
    rows += [{"kind": "frontier", **row} for row in _frontier(points)]
    rows += [{"kind": "best", **best}] if best else []
    now = {"kind": "today", "policy": "today", "setting": "today", "x": today, "y": 1.0, "fits": True}
    rows += [now] if today is not None else []
    rows += [{"kind": "limit", "x": limit, "y": 1.0}] if limit is not None else []
    x = alt.X("x:Q", title=x_title, scale=alt.Scale(zero=False, padding=14), axis=plain(",~r"))
    y = alt.Y("y:Q", title=y_title, scale=alt.Scale(zero=False, padding=14), axis=plain(",~r"))
    base = alt.Chart(ROWS).encode(x=x, y=y)
    of = {kind: base.transform_filter(f"datum.kind == '{kind}'") for kind in ("setting", "frontier", "best", "today")}
    ink = alt.value(look.ink)
    layers: list[alt.Chart] = []
    if limit is not None:
        rule = alt.Chart(ROWS).transform_filter("datum.kind == 'limit'").mark_rule(strokeDash=[2, 3], strokeWidth=1.5)
        layers.append(rule.encode(x=x, color=ink))
    layers.append(
        of["frontier"].mark_line(strokeWidth=1.5, strokeDash=[5, 4], opacity=0.6).encode(order="x:Q", color=ink)
    )
    for fits in sorted({row["fits"] for row in points}):
        some = of["setting"].transform_filter(f"datum.fits == {str(fits).lower()}")
        layers.append(some.mark_point(filled=fits, size=55, opacity=0.9).encode(color=look.colour(points)))
    if today is not None:
        layers.append(of["today"].mark_point(shape="cross", filled=True, size=110).encode(color=ink))
        layers.append(of["today"].mark_text(align="left", dx=9, fontSize=11).encode(text="setting:N", color=ink))
    if best:
        layers.append(of["best"].mark_point(size=190, strokeWidth=1.5).encode(color=ink))
        layers.append(of["best"].mark_text(align="left", dx=11, dy=-9, fontSize=11).encode(text=alt.value("best")))
    told = (
        f"{y_title} against {x_title}, a point a setting; hollow: breaks a limit; dashed: nothing beats these in both"
    )
    return vl_convert.vegalite_to_svg(json.dumps(look.finish(alt.layer(*layers), rows, 320, told)))


def _frontier(points: Sequence[Row]) -> Iterator[Row]:
    """Yield, from the least x on, whoever has a lower y than all before."""
    least = float("inf")
    for each in sorted(points, key=lambda row: (row["x"], row["y"])):
        if each["y"] < least:
            least = each["y"]
            yield each
