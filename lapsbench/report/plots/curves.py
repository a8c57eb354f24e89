"""From requests to what a plot can bear: quantiles, size classes and one busy window, cell by cell.

A million requests become a few hundred points; the requests of one policy at one load are in memory at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.metrics.definitions import request_metrics
from lapsbench.metrics.pool import loads, policies
from lapsbench.reading import warmup_of
from lapsbench.report.plots.timeline import Timeline, timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.core import Floats
    from lapsbench.reading import Run
    from lapsbench.store.saved import SavedCell

POINTS = 10_000
"""Points of all distributions of a page together."""
MOST, FEWEST = 256, 40
"""Points of one curve."""
CLASSES = 10
"""Size classes of equal number, for slowdown."""
QUANTITIES = ("jct_s", "ttft_s", "tpot_s")

Row = dict[str, Any]


@dataclass(slots=True)
class Curves:
    """What the plots of one run are drawn from: rows of JSON values.

    Attributes:
        focus: the load whose details are shown: the highest.
        distributions: quantity, load, policy, share, value.
        slowdown: policy, class (1 small .. 10 large), mean, p99, low_s, high_s, requests; at the focus.
        timeline: one busy window of the first seed at the focus.
    """

    focus: float | None
    distributions: list[Row] = field(default_factory=list)
    slowdown: list[Row] = field(default_factory=list)
    timeline: Timeline | None = None


@dataclass(frozen=True, slots=True)
class _Pool:
    """The measured requests of one policy at one load, all seeds together."""

    values: dict[str, Floats]
    alone_s: Floats
    slowdown: Floats


def focus_of(run: Run) -> float | None:
    """Return the load whose details are shown."""
    return max(loads(run.result.cells), key=lambda load: load or 0.0)


def curves(run: Run, share_of_page: int = 1, progress: Callable[[], None] = lambda: None) -> Curves:
    """Aggregate a run; `share_of_page` runs share a page."""
    found = Curves(focus_of(run))
    groups = [(load, policy) for load in loads(run.result.cells) for policy in policies(run.result.cells)]
    points = int(np.clip(POINTS // (share_of_page * (len(groups) + 2 * len(groups))), FEWEST, MOST))
    shares = _shares(points)
    edges: Floats | None = None
    for load, policy in groups:
        cells = [cell for cell in run.saved.cells if cell.policy == policy and cell.load == load]
        if not cells:
            continue
        pool = _pool(run, cells, progress)
        for quantity in QUANTITIES if load == found.focus else QUANTITIES[:1]:
            found.distributions += _quantiles(pool.values[quantity], shares, quantity, load, policy)
        if load == found.focus and len(pool.alone_s):
            if edges is None:  # the same requests under every policy
                edges = np.quantile(pool.alone_s, np.linspace(0, 1, CLASSES + 1))
            found.slowdown += _classes(pool, edges, policy)
    found.timeline = timeline(run, found.focus)
    return found


def _pool(run: Run, cells: list[SavedCell], progress: Callable[[], None]) -> _Pool:
    parts: dict[str, list[Floats]] = {name: [] for name in (*QUANTITIES, "alone_s", "slowdown")}
    for cell in cells:
        first, cut = 0, warmup_of(run.saved, cell)
        for requests in run.saved.parts(cell):
            found = request_metrics(requests.arrival_s, requests.output_tokens, requests.outcome)
            window = found.finished & (np.arange(first, first + len(found.finished)) >= cut)
            for name in (*QUANTITIES, "slowdown"):
                parts[name].append(getattr(found, name)[window])
            parts["alone_s"].append(requests.outcome.alone_s[window])
            first += len(found.finished)
        progress()
    whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return _Pool(values=whole, alone_s=whole["alone_s"], slowdown=whole["slowdown"])


def _shares(points: int) -> Floats:
    """Return evenly spaced shares, and closer ones where the tail is."""
    body = np.linspace(0.0, 0.98, points - points // 8)
    tail = 1.0 - np.geomspace(0.02, 0.001, points // 8 + 1)[1:]
    return np.concatenate([body, tail])


def _quantiles(values: Floats, shares: Floats, quantity: str, load: float | None, policy: str) -> list[Row]:
    values = values[np.isfinite(values)]
    if not len(values):
        return []
    found = np.quantile(values, shares)
    return [
        {"quantity": quantity, "load": load, "policy": policy, "share": round(share, 4), "value": short(value)}
        for share, value in zip(shares.tolist(), found.tolist(), strict=True)
    ]


def _classes(pool: _Pool, edges: Floats, policy: str) -> list[Row]:
    place = np.clip(np.searchsorted(edges, pool.alone_s, side="right") - 1, 0, CLASSES - 1)
    rows = []
    for number in range(CLASSES):
        mine = pool.slowdown[place == number]
        mine = mine[np.isfinite(mine)]
        if len(mine):
            rows.append(
                {
                    "policy": policy,
                    "class": number + 1,
                    "mean": short(float(mine.mean())),
                    "p99": short(float(np.quantile(mine, 0.99))),
                    "low_s": short(float(edges[number])),
                    "high_s": short(float(edges[number + 1])),
                    "requests": len(mine),
                }
            )
    return rows


def short(value: float) -> float:
    """Return the value to four digits: more cannot be seen in a plot, and would double the page."""
    return float(f"{value:.4g}")
