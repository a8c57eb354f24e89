"""What the picture of a tuning shows: every setting that was looked at in full, as ratios to today's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lapsbench.metrics.gate import short_name
from lapsbench.policies.registry import find

if TYPE_CHECKING:
    from lapsbench.tuning.proof import Proof
    from lapsbench.tuning.trials import Trial
    from lapsbench.tuning.tuner import Tuner

Picture = tuple[list[dict[str, Any]], str, str, float | None, float | None, dict[str, Any] | None]


def picture_of(tuner: Tuner, proof: Proof) -> Picture | None:
    """Return points, titles of the axes, x of the limit and of today, and what was chosen; None without a point."""
    limit = next(iter(tuner.asked.limits), None)
    full = [row for row in tuner.trials.rows if row.look == len(tuner.traffic.looks) - 1]
    points = {row.setting: point for row in full if (point := _point(row, limited=limit is not None))}
    if not points:
        return None
    x_title = "jct_p99 over today" if limit is None else _axis(limit.metric, limit.than)
    y_title = f"{short_name(tuner.asked.minimize)} over today"
    best = points.get(proof.best.key) if proof.best else None
    here = tuner.judge.references(tuner.traffic.whole)
    today = limit.judge(here["today"], here).value if limit else 1.0
    return list(points.values()), x_title, y_title, limit.limit if limit else None, today, best


def _axis(metric: str, than: str) -> str:
    return f"{short_name(metric)} over {'today' if than == 'today' else 'fcfs'}" if than else metric


def _point(row: Trial, *, limited: bool) -> dict[str, Any] | None:
    x = row.limits[0].value if limited else row.tail
    if x is None or row.ratio is None:
        return None
    return {"policy": find(row.policy).name, "setting": row.setting, "x": x, "y": row.ratio, "fits": row.beyond == 0}
