"""How each policy is drawn, the same in every chart of every report: Okabe-Ito colours; an oracle's line is dashed.

Okabe and Ito's palette keeps apart for colour-blind readers (https://jfly.uni-koeln.de/color/). Its black is the ink
of the page, so that it also shows in the dark; its yellow is left out: too faint on white.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

INK = "currentColor"
ORANGE, SKY, GREEN, BLUE, RED, PURPLE, GREY = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#8A8A8A",
)
SOLID, DASHED, DOTTED, FINE = (1, 0), (7, 4), (2, 3), (1, 2)


@dataclass(frozen=True, slots=True)
class Style:
    """A line's colour and dashes (dash, gap, in pixels)."""

    colour: str
    dash: tuple[int, int] = SOLID


KNOWN = MappingProxyType(
    {
        "fcfs": Style(INK),
        "las": Style(GREY),
        "sjf": Style(ORANGE),
        "srpt": Style(SKY),
        "work": Style(GREEN),
        "least-work": Style(BLUE),
        "work-patient": Style(PURPLE),
        "laps-sd": Style(RED),
        "oracle-srpt-tokens": Style(BLUE, DASHED),
        "oracle-srpt-rounds": Style(GREY, DASHED),
        "oracle-work-tokens": Style(GREEN, DASHED),
        "oracle-work-rounds": Style(PURPLE, DASHED),
        "oracle-own-mean": Style(SKY, DASHED),
        "srpt-work": Style(BLUE, DOTTED),
        "srpt-accept": Style(SKY, FINE),
        "trail": Style(SKY, DOTTED),
        "ltr": Style(ORANGE, DOTTED),
        "mlfq": Style(PURPLE, DOTTED),
        "gittins": Style(GREEN, DOTTED),
        "boost": Style(RED, DOTTED),
        "vtc": Style(INK, DOTTED),
    }
)
SPARE = tuple(
    Style(colour, dash) for dash in (SOLID, DOTTED, FINE) for colour in (BLUE, GREEN, PURPLE, ORANGE, SKY, RED, INK)
)
"""For other people's policies and for variants, in this order."""


def styles(policies: Iterable[str]) -> dict[str, Style]:
    """Return a style for each policy; those not built in get what is left, in order of appearance."""
    names = list(dict.fromkeys(policies))
    found = {name: KNOWN[name] for name in names if name in KNOWN}
    left = [style for style in SPARE if style not in found.values()] or list(SPARE)
    others = (name for name in names if name not in found)
    return found | {name: left[place % len(left)] for place, name in enumerate(others)}
