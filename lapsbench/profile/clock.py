"""Time one step: medians of repeats, by CUDA events on CUDA, by the processor's clock anywhere else.

With one thread that is the CPU time of the thread: what others on the machine take from it does not count (beside busy
neighbours the monotonic clock read 2 to 3 times as much, from one repeat to the next). With more it is the monotonic
clock.

Before every repeat a buffer larger than the last-level cache is swept, unless all that the models hold is smaller: the
step then finds the cache as it would between the passes of two models, not as its own last repeat left it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.core import Floats

SETTLED = 0.02
"""Median absolute deviation over median below which repeats stop."""
SWEEPS = 2
"""Last-level caches a sweep is worth."""
HEAD_START_BYTES = 1 << 29
"""Swept on CUDA in any case: some 0.2 ms, in which the host launches what is to be timed."""
TICK_S = 1e-9
"""No step takes no time."""
CACHE_BYTES = 1 << 26
"""Taken for the last-level cache where the system does not tell."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to repeat: at least `least` times unless `seconds` are over, then until settled or `most` times."""

    least: int = 7
    most: int = 40
    seconds: float = 1.5
    warm_ups: int = 1

    @property
    def fewest(self) -> int:
        """Repeats that even the slowest step gets."""
        return min(self.least, 3)


@dataclass(frozen=True, slots=True)
class Timing:
    """The time of one step, in seconds."""

    median_s: float
    p10_s: float
    p90_s: float
    repeats: int
    settled: bool

    @classmethod
    def of(cls, times: Floats) -> Timing:
        """Boil repeats down."""
        p10, median, p90 = np.quantile(times, (0.1, 0.5, 0.9))
        return cls(float(median), float(p10), float(p90), len(times), _spread(times) < SETTLED)

    def less(self, seconds: float) -> Timing:
        """Return what is left of it; not nothing."""
        median_s, p10_s, p90_s = (max(each - seconds, TICK_S) for each in (self.median_s, self.p10_s, self.p90_s))
        return Timing(median_s, p10_s, p90_s, self.repeats, self.settled)


class Clock:
    """Times calls on one device.

    Args:
        device: where the calls run.
        held_bytes: what both models and their caches hold: no more than that is swept.
        limits: how long to repeat.
    """

    def __init__(self, device: torch.device, held_bytes: int, limits: Limits | None = None) -> None:
        self.device = device
        self.limits = limits or Limits()
        size = min(SWEEPS * last_level_bytes(device), held_bytes)
        if device.type == "cuda":
            size = max(size, HEAD_START_BYTES)
        self._swept = torch.zeros(size // 4, dtype=torch.float32, device=device)

    def time(
        self, call: Callable[[], object], prepare: Callable[[], object] | None = None, *, whole: bool = False
    ) -> Timing:
        """Return the time of `call()`; `prepare()` and the sweep come before every repeat and are not timed.

        On CUDA that is the device's; where `whole`, what passes on the host from an idle device to an idle device.
        """
        limits, times = self.limits, list[float]()
        for _ in range(limits.warm_ups):
            if prepare is not None:
                prepare()
            call()
        began = time.perf_counter()
        while len(times) < limits.most:
            if prepare is not None:
                prepare()
            self._swept.add_(1.0)
            times.append(self._passed(call) if whole else self._once(call))
            if len(times) >= limits.least and _spread(np.array(times)) < SETTLED:
                break
            if len(times) >= limits.fewest and time.perf_counter() - began > limits.seconds:
                break
        return Timing.of(np.array(times))

    def _once(self, call: Callable[[], object]) -> float:
        if self.device.type != "cuda":
            clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
            began = clock()
            call()
            return clock() - began
        begin, end = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        )
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000

    def _passed(self, call: Callable[[], object]) -> float:
        self._wait()
        began = time.perf_counter()
        call()
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def clock_name(device: torch.device) -> str:
    """Say what times are read from."""
    if device.type == "cuda":
        return "CUDA events"
    return "CPU time of the one thread" if torch.get_num_threads() == 1 else "monotonic clock"


def copy_bandwidth(device: torch.device, size: int = 1 << 28) -> float:
    """Return bytes read and written per second by a large copy within the device's memory."""
    size = size if device.type == "cpu" else 4 * size
    source, target = (torch.zeros(size // 4, dtype=torch.float32, device=device) for _ in range(2))
    source.normal_()
    timing = Clock(device, 0, Limits(seconds=0.5)).time(lambda: target.copy_(source))
    return 2 * size / timing.median_s


def last_level_bytes(device: torch.device) -> int:
    """Return the size of the last-level cache."""
    if device.type == "cuda":
        return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", CACHE_BYTES))
    try:
        sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
        return max(int(size.removesuffix("K")) * 1024 for size in sizes if size.endswith("K"))
    except (OSError, ValueError):
        return CACHE_BYTES


def _spread(times: Floats) -> float:
    """Return the median absolute deviation over the median."""
    median = float(np.median(times))
    return float(np.median(np.abs(times - median))) / median if median > 0 else 0.0
