"""The columns of the table for one load: what each cell says, which is best, which may go on a narrow terminal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.metrics.catalog import BY_NAME
from lapsbench.metrics.pool import policies, pooled, select
from lapsbench.report import units
from lapsbench.report.spark import ASCII, BLOCKS, sparklines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.metrics.result import ReplayResult
    from lapsbench.metrics.summary import CellSummary

TAIL_N = 1000
"""Fewer measured requests per seed make a p99 a guess."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that differ between a terminal and a pipe."""

    plus_minus: str = "±"
    rule: str = "─"
    levels: str = BLOCKS

    @classmethod
    def fitting(cls, *, terminal: bool, unicode: bool) -> Glyphs:
        """Choose: a pipe gets ASCII but for the sparkline, an ASCII terminal nothing else."""
        if terminal and unicode:
            return cls()
        return cls("+-", "-", BLOCKS if unicode else ASCII)


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        head: two header lines.
        texts: a text per row.
        best: rows to print bold.
        faint: not to be relied on.
        left: aligned to the left.
        name: what to call it when it was dropped, if not by its header.
        metric: what the numbers are in `--json` and `values` what was rounded; "" and none where they are no metric.
        keep: columns of the lowest number are dropped first where the terminal is too narrow; 9 is never dropped.
    """

    head: tuple[str, str]
    texts: Sequence[str]
    best: frozenset[int] = field(default_factory=frozenset)
    faint: bool = False
    left: bool = False
    keep: int = 9
    name: str = ""
    metric: str = ""
    values: Sequence[float | None] = ()

    @property
    def title(self) -> str:
        """The header in one line."""
        return " ".join(word for word in self.head if word).replace("- ", "")

    @property
    def width(self) -> int:
        """Characters it takes."""
        return max(len(text) for text in (*self.head, *self.texts))


def columns(result: ReplayResult, load: float | None, glyphs: Glyphs) -> list[Column]:
    """Build the columns, from left to right."""
    groups = [cells for policy in policies(result.cells) if (cells := select(result.cells, policy, load))]
    table = _Table(result, groups)
    thin = min(cell.measured for group in groups for cell in group) < TAIL_N
    jct = ("jct_mean_s", "jct_p50_s", "jct_p99_s")
    found = [
        Column(("", "policy"), [group[0].label for group in groups], left=True),
        table.time(("JCT", "mean"), "jct_mean_s", jct),
        table.time(("JCT", "p50"), "jct_p50_s", jct),
        table.time(("JCT", "p99"), "jct_p99_s", jct, faint=thin),
        table.time(("TTFT", "p99"), "ttft_p99_s", faint=thin, keep=8),
        table.time(("TPOT", "p50"), "tpot_p50_s", keep=7),
        table.plain(("slow-", "down x"), "slowdown_mean", keep=3),
    ]
    if result.slo:
        found.append(table.plain(("goodput", "req/s"), "goodput_rps", keep=6))
    if any(cell.metrics["preemptions_per_request"] for cell in result.cells):
        # a price, not a merit: never having preempted is nothing to print bold
        found.append(replace(table.plain(("preempt", "per req"), "preemptions_per_request", keep=2), best=frozenset()))
    found.append(_versus(result, groups, load, glyphs))
    axis, lines = sparklines(
        [np.sum([cell.jct_histogram for cell in group], axis=0) for group in groups], glyphs.levels
    )
    found.append(Column(("JCT, log", axis), lines, left=True, keep=1, name="JCT sparkline"))
    return found


def _versus(
    result: ReplayResult, groups: Sequence[Sequence[CellSummary]], load: float | None, glyphs: Glyphs
) -> Column:
    found = {each.policy: each for each in result.comparisons if each.metric == "jct_mean_s" and each.load == load}
    mine = [found.get(group[0].policy) for group in groups]
    values = [each.ratio if each else None for each in mine]
    texts = units.ratios(mine, glyphs.plus_minus)
    baseline = next(
        (cell.label for group in groups for cell in group if cell.policy == result.baseline), result.baseline
    )
    best = _best(groups, values, [text.split(" ")[0] for text in texts], sign=1)
    return Column(("mean JCT", f"vs {baseline}"), texts, best, left=True, metric="jct_mean_s_ratio", values=values)


@dataclass(frozen=True, slots=True)
class _Table:
    """Writes one metric for every row of a load, with decimals that suit it."""

    result: ReplayResult
    groups: Sequence[Sequence[CellSummary]]

    def time(
        self, head: tuple[str, str], metric: str, shared: Sequence[str] = (), *, faint: bool = False, keep: int = 9
    ) -> Column:
        """Write seconds in the unit that suits every load and every column that shares it."""
        everything = [cell.metrics[name] for cell in self.result.cells for name in shared or (metric,)]
        unit, scale = units.time_unit(everything)
        return self._column((head[0], f"{head[1]} {unit}"), metric, scale, faint=faint, keep=keep)

    def plain(self, head: tuple[str, str], metric: str, *, keep: int) -> Column:
        """Write a number without a unit of time."""
        return self._column(head, metric, 1.0, faint=False, keep=keep)

    def _column(self, head: tuple[str, str], metric: str, scale: float, *, faint: bool, keep: int) -> Column:
        values = [pooled(group, metric).value for group in self.groups]
        texts = units.column(values, scale)
        sign = -1 if BY_NAME[metric].better == "higher" else 1
        best = frozenset[int]() if faint else _best(self.groups, values, texts, sign)
        return Column(head, texts, best, faint, keep=keep, metric=metric, values=values)


def _best(
    groups: Sequence[Sequence[CellSummary]], values: Sequence[float | None], texts: Sequence[str], sign: int
) -> frozenset[int]:
    """Return the rows that show the best value a real scheduler reached; none where all show the same."""
    real = [row for row, group in enumerate(groups) if not group[0].oracle and values[row] is not None]
    if len({texts[row] for row in real}) < 2:
        return frozenset()
    best = min(real, key=lambda row: sign * (values[row] or 0.0))
    return frozenset(row for row in real if texts[row] == texts[best])
