"""From requests to what a plot can bear: quantiles, size classes and one busy window, cell by cell.

A million requests become a few hundred points. What is drawn of one policy at one load is in memory at a time, or, of
more than `core.LARGE` requests, a sketch of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import FINISHED, LARGE
from lapsbench.metrics.definitions import latencies
from lapsbench.metrics.pool import loads, policies
from lapsbench.metrics.sketch import Pile
from lapsbench.reading import warmup_of
from lapsbench.report.plots.timeline import Timeline, timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
TIMES = ("arrival_s", "output_tokens", "first_token_s", "finished_s", "alone_s")
"""All that is drawn is made of."""

Metrics = dict[str, Any]
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
        large, focus = sum(map(run.saved.size, cells)) > LARGE, load == found.focus
        if focus and edges is None:  # the same requests under every policy
            edges = _edges(run, cells, large=large)
        piles = {quantity: Pile(large=large) for quantity in (QUANTITIES if focus else QUANTITIES[:1])}
        classes = [Pile(large=large) for _ in range(CLASSES)]
        for cell in cells:
            for part in _measured(run, cell):
                for quantity, pile in piles.items():
                    pile.add(part[quantity])
                if focus and edges is not None:
                    _classify(part, edges, classes)
            progress()
        for quantity, pile in piles.items():
            found.distributions += _quantiles(pile, shares, quantity, load, policy)
        if focus and edges is not None:
            found.slowdown += _classes(classes, edges, policy)
    found.timeline = timeline(run, found.focus)
    return found


def _measured(run: Run, cell: SavedCell) -> Iterator[Metrics]:
    """Yield metrics of measured requests, some after the others, and `alone_s`."""
    for part in _windowed(run, cell, *TIMES):
        yield latencies(**part) | {"alone_s": part["alone_s"]}


def _windowed(run: Run, cell: SavedCell, *names: str) -> Iterator[Metrics]:
    """Yield columns of measured requests, some after the others."""
    first, cut = 0, warmup_of(run.saved, cell)
    for part in run.saved.columns(cell, *names, "status"):
        status = part.pop("status")
        window = (status == FINISHED) & (np.arange(first, first + len(status)) >= cut)
        yield {name: values[window] for name, values in part.items()}
        first += len(status)


def _edges(run: Run, cells: Sequence[SavedCell], *, large: bool) -> Floats | None:
    """Return the ends of the size classes; None where nothing was measured."""
    pile = Pile(large=large)
    for cell in cells:
        for part in _windowed(run, cell, "alone_s"):
            pile.add(part["alone_s"])
    return np.array(pile.quantiles(np.linspace(0, 1, CLASSES + 1))) if len(pile) else None


def _shares(points: int) -> Floats:
    """Return evenly spaced shares, and closer ones where the tail is."""
    body = np.linspace(0.0, 0.98, points - points // 8)
    tail = 1.0 - np.geomspace(0.02, 0.001, points // 8 + 1)[1:]
    return np.concatenate([body, tail])


def _quantiles(pile: Pile, shares: Floats, quantity: str, load: float | None, policy: str) -> list[Row]:
    if not len(pile):
        return []
    return [
        {"quantity": quantity, "load": load, "policy": policy, "share": round(share, 4), "value": short(value)}
        for share, value in zip(shares.tolist(), pile.quantiles(shares), strict=True)
    ]


def _classify(part: Metrics, edges: Floats, classes: Sequence[Pile]) -> None:
    place = np.clip(np.searchsorted(edges, part["alone_s"], side="right") - 1, 0, CLASSES - 1).astype(np.uint8)
    slowdown = part["slowdown"][np.argsort(place, kind="stable")]
    ends = np.cumsum(np.bincount(place, minlength=CLASSES))
    for pile, values in zip(classes, np.split(slowdown, ends[:-1]), strict=True):
        pile.add(values)


def _classes(classes: Sequence[Pile], edges: Floats, policy: str) -> list[Row]:
    return [
        {
            "policy": policy,
            "class": number + 1,
            "mean": short(pile.mean()),
            "p99": short(pile.quantiles(np.array([0.99]))[0]),
            "low_s": short(float(edges[number])),
            "high_s": short(float(edges[number + 1])),
            "requests": len(pile),
        }
        for number, pile in enumerate(classes)
        if len(pile)
    ]


def short(value: float) -> float:
    """Return the value to four digits: more cannot be seen in a plot, and would double the page."""
    return float(f"{value:.4g}")
