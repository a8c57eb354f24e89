"""How dear the machine is while it serves: the same work again and again, part by part; the clock stands for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.serving.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lapsbench.core import Floats
    from lapsbench.serving.clock import ClockKind

WORK = 4
"""Times as long as a probe takes is worked in between: a shared machine changes from one second to the next."""
LEAD = 0.08
"""Of all work, the share that goes before a probe, untimed: what a cache holds after a step says nothing."""
KEPT = 0.95
"""Of probes, the cheapest: one that stood still for half a second says nothing of the steps beside it."""
AROUND_S = 0.5
"""So far before and behind a probe lie those with which it is averaged, its neighbours at least: one says little."""
DEARER = 0.1
"""A machine that is to be waited for takes so much more than usual."""
STOOD, CHANGED = 5.0, 0.15
"""Where a cell was disturbed: a probe took as long as so many turns; all took so much more or less than usual."""


def mean_s(probes_s: Sequence[float] | Floats) -> float:
    """Return the harmonic mean, the dearest left out: probes lie evenly in time, so what is averaged is their speed."""
    return float(1 / np.mean(1 / np.sort(probes_s)[: _kept(len(probes_s))]))


def _kept(probes: int) -> int:
    return max(int(KEPT * probes), 1)


@dataclass(frozen=True, slots=True)
class Probes:
    """What probes took, one after the other.

    Attributes:
        parts: that the work has, which take turns.
        at_s: when they were taken, by the clock of what was served.
    """

    probes_s: list[float]
    at_s: list[float]
    parts: int

    def disturbed(self, usual_s: float) -> bool:
        """Say whether the machine stood still, or changed, while these were taken."""
        stood = max(self.probes_s) > STOOD * self.parts * float(np.median(self.probes_s))
        return stood or abs(self._over(usual_s)) > CHANGED

    def dearer(self, usual_s: float) -> bool:
        """Say whether these took much more than usual."""
        return self._over(usual_s) > DEARER

    def _over(self, usual_s: float) -> float:
        return mean_s(self.probes_s) / usual_s - 1


def usual(several: Sequence[Probes]) -> Floats:
    """Return what each part took on the mean, in all of them: [parts]."""
    parts = several[0].parts
    return np.array(
        [mean_s([took for each in several for took in each.probes_s[part::parts]]) for part in range(parts)]
    )


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


def drift(probes: Probes, usual_s: Floats) -> Drift:
    """Hold a cell's probes, the dearest left out, against what each part usually takes."""
    speed = np.resize(usual_s, len(probes.probes_s)) / probes.probes_s
    kept = np.sort(np.argsort(-speed, kind="stable")[: _kept(len(speed))])
    speed, at_s, places = speed[kept], np.array(probes.at_s)[kept], np.arange(len(kept))
    first = np.minimum(np.searchsorted(at_s, at_s - AROUND_S), np.maximum(places - 1, 0))
    end = np.maximum(np.searchsorted(at_s, at_s + AROUND_S, "right"), np.minimum(places + 2, len(kept)))
    sums = np.append(0.0, np.cumsum(speed))
    return Drift(at_s, (end - first) / (sums[end] - sums[first]), float(1 / speed.mean()))


class Probing(Clock):
    """A clock that stands for a probe every so often, between two steps.

    Args:
        kind: as a clock's.
        parts: of the work; a probe is one of them, in turns.

    Attributes:
        at_s: when each probe was taken.
        probes_s: what it took.
    """

    def __init__(self, kind: ClockKind, parts: Sequence[Callable[[], None]]) -> None:
        super().__init__(kind)
        self.parts, self.probes_s, self.at_s = parts, list[float](), list[float]()
        self.last_s, self.pause_s = self.read(), 0.0

    def hold(self) -> float:
        """Probe if it is time, then stand still."""
        self.keep_pace()
        return super().hold()

    def keep_pace(self) -> None:
        """Probe if it is time."""
        if self.read() - self.last_s >= self.pause_s:
            self.take()

    def take(self) -> None:
        """Probe; nobody holds the clock."""
        self.release()
        parts, part = len(self.parts), len(self.probes_s) % len(self.parts)
        lead = round(parts * LEAD)
        self.at_s.append(self())
        stood_s = self.read()
        for before in range(part - lead, part):
            self.parts[before]()
        began_s = self.read()
        self.parts[part]()
        self.last_s = self.read()
        self.probes_s.append(self.last_s - began_s)
        self.pause_s = WORK * (1 + lead) * min(self.probes_s[part::parts])
        self.base_s += self.last_s - stood_s

    def probes(self, turns: int = 1) -> Probes:
        """Return what there is, so many turns of all parts at least: a short cell may have had none."""
        while len(self.probes_s) < turns * len(self.parts):
            self.take()
        return Probes(self.probes_s, self.at_s, len(self.parts))
