"""The clock that an engine is served on: CPU time with jumps over idle time, or the time on the wall."""

from __future__ import annotations

import time
from typing import Literal

ClockKind = Literal["cpu", "wall"]
TICK_S = 2.0**-20
"""Stamps are multiples of this, so that their sums and differences are exact: a replay fed with them has their bits."""


class Clock:
    """Seconds since it was made: "cpu", of this thread at work plus jumps over idle time; or "wall"."""

    def __init__(self, kind: ClockKind) -> None:
        self.read = time.thread_time if kind == "cpu" else time.perf_counter
        self.jumps = kind == "cpu"
        self.base_s = self.read()
        self.held_s: float | None = None

    def __call__(self) -> float:
        """Return the time; while it is held, that of then."""
        if self.held_s is not None:
            return self.held_s
        return (self.read() - self.base_s) // TICK_S * TICK_S

    def hold(self) -> float:
        """Stand still, so that arrivals are let in, ranked and chosen from at one time; return it."""
        self.release()
        self.held_s = self()
        return self.held_s

    def release(self) -> None:
        """Go on."""
        self.held_s = None

    def idle_until(self, at_s: float) -> None:
        """Let idle time pass."""
        self.release()
        gap_s = at_s - self()
        if gap_s > 0 and self.jumps:
            self.base_s -= gap_s
        elif gap_s > 0:
            time.sleep(gap_s)
