"""Measure a whole grid: slab by slab, within a budget, around points that do not fit memory, each point once.

Knows which points are on disk already and which are to come; how one is measured is for `costs`.
"""

from __future__ import annotations

import time
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from lapsbench.core import COMPONENTS
from lapsbench.profile.clock import Timing
from lapsbench.profile.costs import OutOfMemoryError
from lapsbench.profile.estimate import point_seconds, seconds
from lapsbench.profile.grid import OVERHEAD_DRAFTS, Grid, Point
from lapsbench.profile.neighbours import Reading, shares

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lapsbench.profile.costs import Bench
    from lapsbench.profile.estimate import Rates
    from lapsbench.profile.grid import Sizes
    from lapsbench.profile.parts import Parts

DRIFTED = 0.10
"""Two measurements of a point within one profile should agree so closely."""


class Costing:
    """The cost table in the making.

    Args:
        bench: measures a point.
        grid: all that fits memory by calculation.
        parts: where finished points are kept.
        sizes: of the models.
        rates: of a common device, to tell the time left.
        budget_s: seconds all measuring may take, earlier tries included; None for no limit.
    """

    def __init__(
        self, bench: Bench, grid: Grid, parts: Parts, sizes: Sizes, rates: Rates, budget_s: float | None
    ) -> None:
        self.bench = bench
        self.parts = parts
        self.sizes = sizes
        self.rates = rates
        self.budget_s = budget_s
        self.timings = {_point(line): _timing(line) for line in parts.of("point")}
        self.spent_s = sum(line["spent_s"] for line in parts.of("point"))
        self.resumed = len(self.timings)
        self.grid = grid
        for line in parts.of("out_of_memory"):
            self.grid = self.grid.without(_point(line))
        self.wanted: list[Point] = []
        self.skipped = 0

    def run(self, progress: Callable[[float, float, str], None]) -> None:
        """Measure all that is not on disk yet; `progress(done, total, text)` counts roughly in seconds."""
        while not self._through(progress):
            self.bench.release()

    def rows(self) -> list[tuple[Point, Timing]]:
        """Return the finished table, sorted."""
        return [(point, self.timings[point]) for point in sorted(set(self.wanted) & self.grid.points())]

    def drift(self) -> dict[str, Any]:
        """Measure a few points once more; return how far the farthest is from its first measurement.

        They are the smallest of every component and the largest of drafting and verifying: the first and the last that
        were measured are among them, and a plain step.
        """
        rows = dict(self.rows())
        by_kind = [[each for each in rows if each.component == kind] for kind in COMPONENTS]
        chosen = [min(points) for points in by_kind if points]
        chosen += [max(points) for points in by_kind if points and points[0].component in ("verify", "draft")]
        known = {_point(line): _timing(line) for line in self.parts.of("again")}
        changes: dict[Point, float] = {}
        for point in dict.fromkeys(chosen):
            if point not in known:
                known[point] = self.bench.measure(point, self.grid)
                self.parts.keep("again", **asdict(point), **asdict(known[point]))
            changes[point] = known[point].median_s / rows[point].median_s - 1
        worst = max(changes, key=lambda point: abs(changes[point]))
        far = sum(abs(change) > DRIFTED for change in changes.values())
        found = {"points": len(changes), "far": far, "worst": asdict(worst), "change": changes[worst]}
        return found | {"drifted": far > 0}

    def round_over_parts(self) -> float:
        """Return the time of a whole round over the sum of draft, verify and overhead as measured."""
        kept = self.parts.fact("round_over_parts")
        if kept is None:
            rows = dict(self.rows())
            batch, context = self.grid.batches[0], self.grid.axes.contexts[0]
            fitting = [each for each in self.grid.axes.drafts if Point("draft", batch, each, context) in rows]
            k = max(each for each in fitting if each <= max(OVERHEAD_DRAFTS, fitting[0]))
            whole = self.bench.measure(Point("round", batch, k, context), self.grid).median_s
            overhead = next(timing for point, timing in rows.items() if point.component == "overhead")
            names = (Point("draft", batch, k, context), Point("verify", batch, k + 1, context))
            kept = whole / (overhead.median_s + sum(rows[name].median_s for name in names))
            self.parts.keep("fact", name="round_over_parts", value=kept)
        return float(kept)

    def _through(self, progress: Callable[[float, float, str], None]) -> bool:
        """Go through the slabs in order; false where want of memory has changed them."""
        slabs = self.grid.slabs()
        if self.budget_s is None:  # nothing is left for later: make each cache once
            slabs = [self.grid.ordered(point for slab in slabs for point in slab)]
        total = sum(seconds(slab, self.sizes, self.rates) for slab in slabs)
        done = 0.0
        self.wanted, self.skipped = [], 0
        for number, slab in enumerate(slabs):
            todo = [point for point in slab if point not in self.timings]
            if number and todo and self._too_long(todo):
                self.skipped = sum(len(each) for each in slabs[number:])
                break
            for point in slab:
                progress(done, total, f"{point.component}, batch {point.batch_size}")
                if point in self.timings:
                    pass
                elif not self._measure(point):
                    return False
                done += point_seconds(point, self.sizes, self.rates)
            self.wanted += slab
        progress(total, total, "costs")
        return True

    def _measure(self, point: Point) -> bool:
        began, before = time.perf_counter(), Reading.now()
        try:
            timing = self.bench.measure(point, self.grid)
        except OutOfMemoryError:
            if not self.grid.without(point).batches:
                raise
            self.grid = self.grid.without(point)
            self.parts.keep("out_of_memory", **asdict(point))
            return False
        spent_s = time.perf_counter() - began
        beside = shares(before, Reading.now())
        self.parts.keep("point", **asdict(point), **asdict(timing), spent_s=spent_s, **beside)
        self.timings[point] = timing
        self.spent_s += spent_s
        return True

    def _too_long(self, todo: Sequence[Point]) -> bool:
        """Whether these points would go beyond the budget, by the pace so far."""
        if self.budget_s is None:
            return False
        pace = self.spent_s / seconds(self.timings, self.sizes, self.rates)
        expected = self.spent_s + pace * seconds(todo, self.sizes, self.rates)
        return bool(expected > self.budget_s)


def _point(line: dict[str, Any]) -> Point:
    return Point(**{size.name: line[size.name] for size in fields(Point) if size.name in line})


def _timing(line: dict[str, Any]) -> Timing:
    return Timing(line["median_s"], line["p10_s"], line["p90_s"], line["repeats"], line["settled"])
