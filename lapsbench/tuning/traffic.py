"""The traffic in two parts: settings are chosen on the first, in looks of growing length, and proven on the second."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.errors import LapsbenchError
from lapsbench.traces import scale_to_rate
from lapsbench.traces.shape import cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lapsbench.core import Trace

LEAST = 200
"""Requests of a part: of fewer, no queue can be judged to grow or not."""
FIRST, STEP = 2000, 4
"""Requests of the shortest look at least, where there are more, and how much longer each is than the one before. Of a
few hundred no queue was seen, so drafts alone were chosen by; and they took as long, for what no length changes."""


@dataclass(frozen=True, slots=True)
class Look:
    """Some of the traffic, with seeds of its own.

    Attributes:
        name: for files and people.
        trace: its arrivals, at the rate.
        window: from and to, in seconds of the whole trace's own clock, as `--window` takes it.
    """

    name: str
    trace: Trace
    window: tuple[float, float]
    seeds: tuple[int, ...]

    @property
    def requests(self) -> int:
        """How many are replayed: those of all seeds."""
        return len(self.trace) * len(self.seeds)


@dataclass(frozen=True, slots=True)
class Traffic:
    """The looks at the part that settings are chosen on, shortest first, and the part they are proven on."""

    looks: tuple[Look, ...]
    held_out: Look

    @property
    def whole(self) -> Look:
        """The longest look."""
        return self.looks[-1]


def split(
    trace: Trace,
    window: tuple[float, float] | None,
    limit: int | None,
    rate_rps: float | None,
    seeds: tuple[int, ...],
) -> Traffic:
    """Split a trace in halves, by requests; the second half has as many seeds, none of them of the first.

    Args:
        trace: as it is in its file.
        window: what is taken of it at all, as `--window`.
        limit: of that, as `--limit`.
        rate_rps: what every look is brought to; None: the trace's own clock.
        seeds: of the first half.

    Raises:
        LapsbenchError: too few requests for two halves.
    """
    since_s = trace.arrival_s - trace.arrival_s[0]
    first, last = np.searchsorted(since_s, window) if window else (0, len(since_s))
    last = min(int(last), int(first) + limit) if limit else int(last)
    first = int(first)
    starts = np.flatnonzero(np.diff(since_s[first:last], prepend=-1.0) > 0) + first  # ties stay together
    middle = int(starts[np.searchsorted(starts, (first + last + 1) // 2)]) if last > first + 1 else last
    if middle - first < LEAST or last - middle < LEAST:
        raise LapsbenchError(
            f"{last - first} requests are too few to choose on one half and to prove on the other",
            where=f"trace {trace.name}",
            hint=f"a trace of {2 * LEAST} requests or more",
        )

    def look(name: str, start: int, end: int, these: tuple[int, ...]) -> Look:
        stretch = (float(since_s[start]), float(since_s[end]) if end < len(since_s) else math.inf)
        part = cut(trace, window=stretch)
        return Look(name, part if rate_rps is None else scale_to_rate(part, rate_rps), stretch, these)

    ends = [int(starts[np.searchsorted(starts, first + length)]) for length in _lengths(middle - first)]
    looks = [look(f"first {end - first}", first, end, seeds[:1]) for end in ends]
    looks += [look("one seed", first, middle, seeds[:1])] if len(seeds) > 1 else []
    held = tuple(seed + len(seeds) for seed in seeds)
    return Traffic((*looks, look("chosen on", first, middle, seeds)), look("held out", middle, last, held))


def _lengths(whole: int) -> Iterator[int]:
    """Yield the lengths of looks that are shorter than the whole part, shortest first."""
    power = int(math.log(max(whole / FIRST, 1), STEP) + 1e-9)
    yield from (whole // STEP**each for each in range(power, 0, -1))
