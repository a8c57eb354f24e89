"""How busy others kept the machine while something was measured: from the kernel's own counters, where it has them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNTERS = Path("/proc/stat")
BUSY = 0.1
"""Share of the machine taken by others that is worth telling."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Processor seconds since the machine started, of all its processors, and of this process.

    Attributes:
        total_s: what there was, idle time included.
        busy_s: what this machine's processes used.
        stolen_s: what the host of a virtual machine gave to others.
        own_s: what this process used.
    """

    total_s: float
    busy_s: float
    stolen_s: float
    own_s: float

    @classmethod
    def now(cls) -> Reading | None:
        """Read the counters; None where the system has none."""
        try:
            fields = COUNTERS.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
            second = os.sysconf("SC_CLK_TCK")
            user, nice, system, idle, waiting, interrupts, soft, stolen = (int(field) / second for field in fields)
        except (OSError, ValueError):
            return None
        busy = user + nice + system + interrupts + soft
        return cls(busy + idle + waiting + stolen, busy, stolen, time.process_time())


def shares(before: Reading | None, after: Reading | None) -> dict[str, float]:
    """Return which share of the machine others took between two readings: its own processes, and its host's."""
    if before is None or after is None or after.total_s <= before.total_s:
        return {}
    total = after.total_s - before.total_s
    others = after.busy_s - before.busy_s - (after.own_s - before.own_s)
    return {"others": _share(others / total), "stolen": _share((after.stolen_s - before.stolen_s) / total)}


def pooled(lines: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """Return the shares over all measured points, weighted by their time; None where nothing is known."""
    known = [line for line in lines if "others" in line]
    if not known:
        return None
    weights = np.array([line["spent_s"] for line in known])
    found = {name: np.array([line[name] for line in known]) for name in ("others", "stolen")}
    means = {name: round(float(np.average(values, weights=weights)), 3) for name, values in found.items()}
    return means | {"others_at_most": float(found["others"].max())}


def _share(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 3)
