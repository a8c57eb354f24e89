"""How dear the machine is while it serves: the same piece of work again and again, for which the clock stands still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.serving.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lapsbench.core import Floats
    from lapsbench.serving.clock import ClockKind

WORK = 8
"""Times as long as a probe is worked in between: a shared machine changes from one second to the next."""
KEPT = 0.95
"""Of probes, the cheapest: one that stood still for half a second says nothing of the steps beside it."""
AROUND = 4
"""Probes before and behind one, with which it is averaged: one alone says little."""
STOOD, CHANGED = 5.0, 0.1
"""Where a cell was disturbed: a probe took so many times the median one; all took so much more or less than usual."""


def mean_s(probes_s: Sequence[float]) -> float:
    """Return the mean, the dearest left out."""
    return float(np.sort(probes_s)[: max(int(KEPT * len(probes_s)), 1)].mean())


def disturbed(probes_s: Sequence[float], usual_s: float) -> bool:
    """Say whether a machine stood still, or changed, while these were taken."""
    stood = max(probes_s) > STOOD * float(np.median(probes_s))
    return stood or abs(mean_s(probes_s) / usual_s - 1) > CHANGED


@dataclass(frozen=True, slots=True)
class Probes:
    """When probes were taken, by the clock of what was served, and what each took."""

    at_s: list[float]
    probes_s: list[float]


@dataclass(frozen=True, slots=True)
class Drift:
    """How many times as dear as elsewhere the machine was: at moments, between which it is on a line, and on the whole.

    Attributes:
        at_s, times: float64 [P].
        whole: of all of them together.
    """

    at_s: Floats
    times: Floats
    whole: float

    def at(self, now_s: float) -> float:
        """Return how dear it was at a time."""
        return float(np.interp(now_s, self.at_s, self.times))


def drift(probes: Probes, usual_s: float) -> Drift:
    """Hold a cell's probes, the dearest left out, against what they usually take."""
    taken_s, at_s = np.array(probes.probes_s), np.array(probes.at_s)
    kept = np.sort(np.argsort(taken_s, kind="stable")[: max(int(KEPT * len(taken_s)), 1)])
    sums, places = np.append(0.0, np.cumsum(taken_s[kept])), np.arange(len(kept))
    first, end = np.maximum(places - AROUND, 0), np.minimum(places + AROUND + 1, len(kept))
    times = (sums[end] - sums[first]) / (end - first) / usual_s
    return Drift(at_s[kept], times, float(taken_s[kept].mean()) / usual_s)


class Probing(Clock):
    """A clock that stands for a probe every so often, between two steps.

    Args:
        kind: as a clock's.
        probe: the piece of work.

    Attributes:
        at_s: when each probe was taken.
        probes_s: what it took.
    """

    def __init__(self, kind: ClockKind, probe: Callable[[], None]) -> None:
        super().__init__(kind)
        self.probe, self.probes_s, self.at_s, self.last_s = probe, list[float](), list[float](), self.read()

    def hold(self) -> float:
        """Probe if it is time, then stand still."""
        self.keep_pace()
        return super().hold()

    def keep_pace(self) -> None:
        """Probe if it is time."""
        if self.read() - self.last_s >= WORK * min(self.probes_s, default=0.0):
            self.take()

    def take(self) -> None:
        """Probe; nobody holds the clock."""
        self.release()
        self.at_s.append(self())
        began_s = self.read()
        self.probe()
        self.last_s = self.read()
        self.probes_s.append(self.last_s - began_s)
        self.base_s += self.last_s - began_s
