"""Guess how long a point takes to measure, from sizes and the rates of a common device: for time left, and no more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lapsbench.profile.grid import PREFILL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lapsbench.profile.grid import Grid, Point, Sizes

REPEATS = 12
"""Repeats a quick step takes until it has settled, as a rule."""
FEWEST = 4
"""Repeats of a slow one, warm-up included."""
CHUNK = 512


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device does in a second: bytes moved, floating-point operations; and seconds lost per pass and point."""

    bytes: float
    operations: float
    pass_s: float
    point_s: float
    cap_s: float

    @classmethod
    def of(cls, *, cuda: bool, threads: int, item_bytes: int, cap_s: float) -> Rates:
        """Return the rates of a common GPU of a data centre, or of a CPU."""
        if cuda:
            return cls(2e12, 3e14 if item_bytes < 4 else 4e13, 5e-5, 0.4, cap_s)
        return cls(8e9 * threads, 3e10 * threads, 2e-3, 0.05, cap_s)


@dataclass(frozen=True, slots=True)
class Plan:
    """A grid for one pair on one device.

    Attributes:
        device: its name.
        sizes, rates: what time and memory were calculated with.
        grid: all that fits memory.
        seconds: a rough time for measuring it.
        bytes: the most memory any point needs, weights included.
    """

    device: str
    sizes: Sizes
    rates: Rates
    grid: Grid
    seconds: float
    bytes: int


def seconds(points: Iterable[Point], sizes: Sizes, rates: Rates) -> float:
    """Return a rough time for measuring all of them."""
    return sum(point_seconds(point, sizes, rates) for point in points)


def point_seconds(point: Point, sizes: Sizes, rates: Rates) -> float:
    """Return a rough time for measuring one point."""
    call = step_seconds(point, sizes, rates)
    repeats = min(REPEATS, max(FEWEST, rates.cap_s / call + 2))
    return rates.point_s + repeats * call


def step_seconds(point: Point, sizes: Sizes, rates: Rates) -> float:
    """Return a rough time of the step itself."""
    batch, query, context = point.batch_size, point.query_tokens, point.context_tokens
    drafts = point.component.startswith("draft")
    weights = sizes.draft_pass_bytes if drafts else sizes.weights_bytes
    cache = batch * context * (sizes.draft_kv_bytes if drafts else sizes.kv_bytes)
    if point.component in ("swap_out", "swap_in"):
        return context * (sizes.kv_bytes + sizes.draft_kv_bytes) / min(rates.bytes, 2e10) + 1e-4
    if point.component == "overhead":
        return batch * (query + 1) * sizes.vocabulary * sizes.item_bytes / rates.bytes + rates.pass_s
    tokens = batch if point.component == "draft" else batch * query
    passes = query if point.component == "draft" else 1
    if point.component == "mixed":
        tokens = batch * point.verify_tokens + query
    if point.component in PREFILL:
        passes, tokens = math.ceil(query / CHUNK), min(query, CHUNK)
    work = 2 * weights / sizes.item_bytes * tokens / rates.operations
    return passes * (max((weights + cache) / rates.bytes, work) + rates.pass_s)
