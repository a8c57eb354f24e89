"""`--budget`: so many trials, or so much time, of which enough is left for the proof."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from lapsbench.errors import UsageError

SHAPE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")
SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
MARGIN = 1.5
"""Times what the rest is expected to take: a trial with a large batch takes longer than the mean of them."""


@dataclass(slots=True)
class Budget:
    """What may be spent; time counts from when this was made.

    Attributes:
        trials, seconds: one of the two is None.
        pace_s: seconds a request took so far, of all that were replayed.
    """

    text: str
    trials: int | None = None
    seconds: float | None = None
    began: float = field(default_factory=time.monotonic)
    replayed: int = 0
    replaying_s: float = 0.0

    @property
    def spent_s(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self.began

    def took(self, requests: int, seconds: float) -> None:
        """Count what was replayed."""
        self.replayed += requests
        self.replaying_s += seconds

    def allows(self, done: int, requests: int, reserved: int) -> bool:
        """Say whether another trial of so many requests may begin; `reserved`: what is to be replayed after it.

        The first one always may: without a trial there is nothing to prove.
        """
        if self.trials is not None:
            return done < self.trials
        if done == 0 or self.seconds is None:
            return True
        pace_s = self.replaying_s / max(self.replayed, 1)
        return self.spent_s + MARGIN * pace_s * (requests + reserved) <= self.seconds

    def share(self, done: int) -> float:
        """Return how much of it is spent."""
        if self.trials is not None:
            return min(1.0, done / self.trials)
        return min(1.0, self.spent_s / (self.seconds or 1.0))


def budget_of(text: str) -> Budget:
    """Read a budget.

    Raises:
        UsageError: it is neither a number of trials nor a time.
    """
    found = SHAPE.fullmatch(text.strip())
    hint = "10m, 90s, 1h, or a number of trials such as 200"
    if found is None or float(found[1]) <= 0 or (not found[2] and "." in found[1]):
        raise UsageError(f"{text!r} is neither a time nor a number of trials", where="--budget", hint=hint)
    if found[2]:
        return Budget(text, seconds=float(found[1]) * SECONDS[found[2]])
    return Budget(text, trials=int(found[1]))
