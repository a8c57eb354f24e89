"""A comparison as words: whether it is a gain, how large it is, and what was compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lapsbench.metrics.catalog import BY_NAME
from lapsbench.metrics.pool import pooled, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.metrics.comparison import Comparison
    from lapsbench.metrics.summary import CellSummary

SAME = 0.01
"""A ratio whose whole interval lies this close to 1 is no difference to an engineer."""

Finding = Literal["gain", "loss", "same", "undecided"]


def finding(worth: Comparison) -> Finding:
    """Judge a ratio by its interval."""
    if worth.low is None or worth.high is None:
        return "undecided"
    if 1 - SAME <= worth.low <= 1 <= worth.high <= 1 + SAME:
        return "same"
    if worth.low <= 1 <= worth.high:
        return "undecided"
    return "gain" if (worth.high < 1) == (BY_NAME[worth.metric].better == "lower") else "loss"


def is_next_to_nothing(worth: Comparison) -> bool:
    """Whether the whole interval lies within what is no difference to an engineer."""
    return worth.low is not None and worth.high is not None and worth.low >= 1 - SAME and worth.high <= 1 + SAME


def change(worth: Comparison) -> str:
    """Write a change with its sign: of a latency, minus is faster."""
    value, low, high = (f"{round(_percent(each), 1) + 0.0:+.1f}" for each in (worth.ratio, worth.low, worth.high))
    if worth.low is None:
        return f"{value} % (too few requests for an interval)"
    return f"{value} % [{low} to {high}]"


def size(worth: Comparison) -> str:
    """Write a clear gain or loss without its sign."""
    value = abs(_percent(worth.ratio))
    low, high = sorted((abs(_percent(worth.low)), abs(_percent(worth.high))))
    digits = 0 if value >= 10 else 1
    return f"{value:.{digits}f} % [{low:.{digits}f} to {high:.{digits}f}]"


def pair(cells: Sequence[CellSummary], before: str, after: str, load: float | None) -> str:
    """Write two policies with their mean JCTs."""
    return " -> ".join(_named(select(cells, policy, load)) for policy in (before, after))


def seconds(value: float) -> str:
    """Write a time with three digits that matter, in ms below a second."""
    scaled, unit = (value, "s") if value >= 1 else (1000 * value, "ms")
    digits = 2 if scaled < 10 else 1 if scaled < 100 else 0
    return f"{scaled:,.{digits}f} {unit}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Write "a", "a and b", "a, b and c"."""
    return f" {last} ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def _named(cells: Sequence[CellSummary]) -> str:
    mean = pooled(cells, "jct_mean_s").value
    return f"{cells[0].label} {'?' if mean is None else seconds(mean)}"


def _percent(ratio: float | None) -> float:
    return 0.0 if ratio is None else 100 * (ratio - 1)
