"""Sparklines of JCT distributions on one shared logarithmic axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.metrics.statistics import BINS_FROM, BINS_PER_DECADE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.core import Longs

WIDTH = 10
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.:-=+*#"
TAIL = 0.005
"""Share of the requests that may lie beyond each end of the axis."""


def sparklines(histograms: Sequence[Longs], levels: str = BLOCKS) -> tuple[str, list[str]]:
    """Return the axis ("0.3..120 s") and a line per histogram, each scaled to its own peak, blank where empty."""
    pooled = np.sum(histograms, axis=0)
    if not pooled.sum():
        return "", ["" for _ in histograms]
    shares = np.cumsum(pooled) / pooled.sum()
    first = int(np.searchsorted(shares, TAIL))
    last = int(np.searchsorted(shares, 1 - TAIL))
    # a character covers the same number of bins everywhere, or the axis would not be logarithmic
    step = (last - first) // WIDTH + 1
    characters = (last - first) // step + 1
    low, high = (10 ** (BINS_FROM + place / BINS_PER_DECADE) for place in (first, first + characters * step))
    lines = [_line(histogram, first, step, characters, levels) for histogram in histograms]
    return f"{_short(low)}..{_short(high)} s", lines


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _line(histogram: Longs, first: int, step: int, characters: int, levels: str) -> str:
    place = np.clip((np.arange(len(histogram)) - first) // step, 0, characters - 1)
    heights = np.bincount(place, histogram, characters)
    if not heights.any():
        return ""
    tops = np.ceil(heights / heights.max() * len(levels)).astype(int)
    return "".join(levels[top - 1] if top else " " for top in tops)
