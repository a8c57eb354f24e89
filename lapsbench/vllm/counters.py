"""What the plug-in counts, in vLLM's /metrics and in a line when the engine stops.

vLLM's engine runs in a process of its own, and hands its front end only the figures it knows. What others count gets to
/metrics the way prometheus_client has for several processes: files in `PROMETHEUS_MULTIPROC_DIR`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from prometheus_client import Counter, Gauge

TOLD = {
    "ranked": "Times a policy was asked for a rank.",
    "preempted": "Times a request lost its place in the batch.",
    "recomputed": "Times a request lost its KV blocks, to be computed again.",
    "unpredicted": "Requests that came without a usable prediction of their length.",
    "rank_seconds": "Seconds spent on ranks and order.",
}

NOW = {"live_requests": "Requests that are here.", "held_blocks": "KV blocks that requests hold."}


@dataclass
class Counters:
    """Totals since the engine started."""

    ranked: int = 0
    preempted: int = 0
    recomputed: int = 0
    unpredicted: int = 0
    rank_seconds: float = 0.0
    steps: int = 0
    told: dict[str, float] = field(default_factory=dict)

    def tell(self, engine: int, live: int, held: int) -> None:
        """Bring the metrics up to date."""
        for name, value in zip(NOW, (live, held), strict=True):
            _gauge(name).labels(str(engine)).set(value)
        for name in TOLD:
            total = getattr(self, name)
            if total != self.told.get(name, 0):
                _metric(name).labels(str(engine)).inc(total - self.told.get(name, 0))
                self.told[name] = total

    def __str__(self) -> str:
        """Return one line."""
        totals = asdict(self)
        each = 1e6 * self.rank_seconds / max(self.steps, 1)
        counts = ", ".join(f"{name} {totals[name]:,}" for name in ("ranked", "preempted", "recomputed", "unpredicted"))
        return f"{counts}, {self.steps:,} steps at {each:.0f} us for ranks"


@cache
def _metric(name: str) -> Any:
    return Counter(f"lapsbench:{name}", TOLD[name], ("engine",))


@cache
def _gauge(name: str) -> Any:
    return Gauge(f"lapsbench:{name}", NOW[name], ("engine",), multiprocess_mode="livesum")
