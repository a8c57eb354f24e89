"""How dear the machine is while it serves: the same piece of work again and again, for which the clock stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.serving.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.serving.clock import ClockKind

EVERY_S = 0.1
"""Of work in between: this machine changes from one second to the next."""


class Probing(Clock):
    """A clock that stands for a probe every so often, between two steps.

    Args:
        kind: as a clock's.
        probe: the piece of work.

    Attributes:
        probes_s: what each probe took.
    """

    def __init__(self, kind: ClockKind, probe: Callable[[], None]) -> None:
        super().__init__(kind)
        self.probe, self.probes_s, self.last_s = probe, list[float](), self.read()

    def hold(self) -> float:
        """Probe if it is time, then stand still."""
        self.release()
        if self.read() - self.last_s >= EVERY_S:
            self.take()
        return super().hold()

    def take(self) -> None:
        """Probe."""
        began_s = self.read()
        self.probe()
        self.last_s = self.read()
        self.probes_s.append(self.last_s - began_s)
        self.base_s += self.last_s - began_s
