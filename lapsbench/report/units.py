"""Numbers as people read them: one unit and one number of decimals for a whole column."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.metrics.comparison import Comparison

UNDEFINED = "-"
NO_BREAK = "\N{NO-BREAK SPACE}"


def time_unit(values: Sequence[float | None]) -> tuple[str, float]:
    """Choose the unit of a column of seconds, and what to multiply with."""
    known = [value for value in values if value]
    if not known or max(known) >= 10 or min(known) >= 1:
        return "s", 1.0
    return "ms", 1000.0


def column(values: Sequence[float | None], scale: float = 1.0) -> list[str]:
    """Write a column with as many decimals as its smallest number needs for three digits, and its largest can bear."""
    scaled = [None if value is None else value * scale for value in values]
    sizes = [abs(value) for value in scaled if value]
    decimals = 2
    if sizes:
        room = 0 if max(sizes) >= 1000 else 1 if max(sizes) >= 100 else 2
        decimals = max(0, min(room, 2 - math.floor(math.log10(min(sizes)))))
    return [_write(value, decimals) for value in scaled]


def ratios(found: Sequence[Comparison | None], plus_minus: str) -> list[str]:
    """Write ratios as `0.57 +-0.02`, or all as `0.57 [0.40,0.81]` where an interval is lopsided."""
    ends = [_ends(each) for each in found]
    known = [each for each in ends if each and each[1] < each[2]]
    widths = sorted(max(value - low, high - value) for value, low, high in known)
    decimals = 3 if widths and widths[len(widths) // 2] < 0.01 else 2
    # the upper side is the longer one: +- names it, as long as the other side is shorter by no more than one digit
    even = all((high - value) - (value - low) < 1.5 * 10**-decimals for value, low, high in known)
    texts = []
    for each, end in zip(found, ends, strict=True):
        if each is None or each.ratio is None:
            texts.append(UNDEFINED)
        elif end is None or each.policy == each.baseline:
            texts.append(f"{each.ratio:.{decimals}f}")
        elif even:
            texts.append(f"{each.ratio:.{decimals}f} {plus_minus}{end[2] - end[0]:.{decimals}f}")
        else:
            texts.append(f"{each.ratio:.{decimals}f} [{end[1]:.{decimals}f},{end[2]:.{decimals}f}]")
    if even:
        return texts
    # the numbers stay under each other when only some have an interval
    longest = max(len(text) for text in texts)
    return [text.ljust(longest) for text in texts]


def count(number: int, noun: str) -> str:
    """Write "1 seed", "1,000 seeds"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def unparted(text: str) -> str:
    """Keep numbers and their units on one line."""
    return re.sub(r"(?<=\d) (?=(?:s|ms)\b|%)", NO_BREAK, text)


def prose(text: str) -> str:
    """Write a sentence of the terminal as pages can."""
    return unparted(text).replace("->", "\N{RIGHTWARDS ARROW}")


def _write(value: float | None, decimals: int) -> str:
    if value is None:
        return UNDEFINED
    # beside a large number a small one is small, not nothing
    lost = value != 0 and round(value, decimals) == 0
    return f"{value:.1g}" if lost else f"{value:,.{decimals}f}"


def _ends(found: Comparison | None) -> tuple[float, float, float] | None:
    if found is None or found.ratio is None or found.low is None or found.high is None:
        return None
    return found.ratio, found.low, found.high
