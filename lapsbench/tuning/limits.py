"""`--minimize` and `--subject-to`: which metric, and how much of another is borne; and how cells are judged by them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lapsbench.errors import UsageError
from lapsbench.metrics.catalog import BY_NAME, METRICS
from lapsbench.metrics.comparison import Comparison, paired
from lapsbench.metrics.gate import short_name
from lapsbench.metrics.pool import pooled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lapsbench.metrics.summary import CellSummary

SHAPE = re.compile(r"(?P<metric>\w+)\s*(?P<side><=|>=)\s*(?P<limit>[\d.]+(?:e[+-]?\d+)?)\s*(?:x\s*(?P<than>\w+))?")
EXAMPLE = '"jct_p99 <= 1.2x fcfs", or "ttft_p99 <= 2" in seconds'
UNBORNE = 1e3
"""How far beyond its limit a metric is that is not even defined, as where requests are left unfinished."""

Than = Literal["", "fcfs", "today"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A constraint on some cells.

    Attributes:
        value: what is limited: a metric, or its ratio to the same of fcfs or today; None where it is undefined.
        low, high: 95 % interval.
        beyond: how far beyond the limit, as a fraction of it; 0 or less where it is kept.
        proven: whether it is kept with the whole interval.
    """

    value: float | None
    low: float | None
    high: float | None
    beyond: float
    proven: bool

    @property
    def kept(self) -> bool:
        """Whether the value itself keeps the limit."""
        return self.beyond <= 0


@dataclass(frozen=True, slots=True)
class Limit:
    """A constraint as typed."""

    text: str
    metric: str
    below: bool
    limit: float
    than: Than

    def judge(self, cells: Sequence[CellSummary], others: Mapping[str, Sequence[CellSummary]]) -> Judged:
        """Judge cells; `others`: those of fcfs and of today on the same window and seeds."""
        if self.than:
            found = against(cells, others[self.than], self.metric)
            value, low, high = found.ratio, found.low, found.high
        else:
            plain = pooled([] if any(cell.unfinished for cell in cells) else cells, self.metric)
            value, low, high = plain.value, plain.low, plain.high
        far = high if self.below else low
        return Judged(value, low, high, self._beyond(value), far is not None and self._beyond(far) <= 0)

    def _beyond(self, value: float | None) -> float:
        if value is None:
            return UNBORNE
        if self.below:
            return value / self.limit - 1
        return self.limit / value - 1 if value > 0 else UNBORNE


def against(cells: Sequence[CellSummary], others: Sequence[CellSummary], metric: str) -> Comparison:
    """Compare two settings on the same window and seeds."""
    found, method, units = paired(list(zip(cells, others, strict=True)), metric)
    return Comparison(
        cells[0].policy, others[0].policy, None, metric, found.value, found.low, found.high, method, units
    )


def metric_of(text: str, where: str, *, slo: bool, lower: bool = False) -> str:
    """Return a metric by its name, whose unit may be left out.

    Raises:
        UsageError: there is none, a change of it is neither better nor worse, or it takes an SLO that is not given.
    """
    found = next((name for name in BY_NAME if text in (name, short_name(name))), None)
    ways = ("lower",) if lower else ("lower", "higher")
    if found is None or BY_NAME[found].better not in ways:
        known = ", ".join(short_name(each.name) for each in METRICS if each.better in ways)
        what = f"no metric is called {text!r}" if found is None else f"{text} is not better when it is lower"
        raise UsageError(what, where=where, hint=f"one of: {known}")
    if found.startswith("goodput") and not slo:
        raise UsageError(f"{text} counts requests within an SLO", where=where, hint="--slo ttft:500,tpot:50")
    return found


def limit_of(text: str, *, slo: bool) -> Limit:
    """Read a constraint.

    Raises:
        UsageError: it cannot be read, or limits what has no better and worse.
    """
    where = "--subject-to"
    found = SHAPE.fullmatch(text.strip())
    try:
        limit = float(found["limit"]) if found else math.nan
    except ValueError:
        limit = math.nan
    if found is None or not (math.isfinite(limit) and limit > 0):
        raise UsageError(f"{text!r} is no constraint", where=where, hint=EXAMPLE)
    than = found["than"] or ""
    if than not in ("", "fcfs", "today"):
        raise UsageError(f"{text!r} is limited by {than!r}", where=where, hint="fcfs, today, or a plain number")
    metric = metric_of(found["metric"], where, slo=slo)
    side = "<=" if BY_NAME[metric].better == "lower" else ">="
    if found["side"] != side:
        what = f"{short_name(metric)} is better when it is {BY_NAME[metric].better}"
        raise UsageError(what, where=where, hint=f'"{short_name(metric)} {side} ..."')
    return Limit(" ".join(text.split()), metric, side == "<=", limit, than)  # type: ignore[arg-type] # seen above
