"""Service level objectives: read `ttft:500,tpot:50,e2el:30000` and say which requests meet them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.errors import UsageError

if TYPE_CHECKING:
    from lapsbench.metrics.definitions import Flags, RequestMetrics

KEYS = ("ttft", "tpot", "e2el")
"""The keys of vLLM's `--goodput`; `e2el` is the JCT."""


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits in seconds; None where there is no limit."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2el_s: float | None = None

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Read milliseconds as typed after `--slo`.

        Raises:
            UsageError: an unknown or repeated key, a missing, non-positive or non-finite limit.
        """
        limits: dict[str, float] = {}
        for part in text.split(","):
            key, _, value = (piece.strip() for piece in part.partition(":"))
            if key not in KEYS:
                raise _refuse(f"unknown SLO {key!r}; known: {', '.join(KEYS)}")
            if key in limits:
                raise _refuse(f"{key} is given twice")
            limits[key] = _seconds(key, value)
        return cls(ttft_s=limits.get("ttft"), tpot_s=limits.get("tpot"), e2el_s=limits.get("e2el"))

    def met(self, requests: RequestMetrics) -> Flags:
        """Say which requests finished within every limit; a null TPOT passes, as in vLLM."""
        good = requests.finished.copy()
        if self.ttft_s is not None:
            good &= requests.ttft_s <= self.ttft_s
        if self.tpot_s is not None:
            good &= (requests.tpot_s <= self.tpot_s) | np.isnan(requests.tpot_s)
        if self.e2el_s is not None:
            good &= requests.jct_s <= self.e2el_s
        return good

    def __str__(self) -> str:
        limits = zip(KEYS, (self.ttft_s, self.tpot_s, self.e2el_s), strict=True)
        return ",".join(f"{key}:{limit * 1000:.12g}" for key, limit in limits if limit is not None)


def _seconds(key: str, value: str) -> float:
    try:
        limit_ms = float(value)
    except ValueError:
        raise _refuse(f"{key} needs milliseconds, not {value!r}") from None
    if not (math.isfinite(limit_ms) and limit_ms > 0):
        raise _refuse(f"{key} must be above zero and finite, not {value}")
    return limit_ms / 1000


def _refuse(what: str) -> UsageError:
    return UsageError(what, where="--slo", hint="--slo ttft:500,tpot:50,e2el:30000 (milliseconds)")
