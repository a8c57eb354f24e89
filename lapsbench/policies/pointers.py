"""Arrays by address, for compiled functions: what the simulator hands a policy is a handful of integers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lapsbench.compiled.later import Later
from lapsbench.core import DRAFTING, JOB, SYSTEM, WRITABLE

LINE = 64
"""Bytes of a cache line."""


def sizeof(dtype: np.dtype[np.void]) -> int:
    """Return the record's size rounded up to whole cache lines."""
    return -(-dtype.itemsize // LINE) * LINE


def record_at(
    dtype: np.dtype[np.void],
    *,
    after: np.dtype[np.void] | None = None,
    shown: str = "",
    writable: tuple[str, ...] = (),
) -> Any:
    """Name `f(address, i)`, which a compiled function uses like `sim.memory.records(...)[i]`.

    With `after`, a record of that kind lies at the address, and the one that is meant behind it. With `shown`, its
    noun, the function may set the `writable` fields alone.
    """
    skipped = sizeof(after) if after is not None else 0
    return Later(partial(_made, "record_at", dtype, sizeof(dtype), skipped, shown, writable))


def _made(name: str, *arguments: Any) -> Any:
    from lapsbench.compiled import intrinsics  # noqa: PLC0415 - imports Numba

    return getattr(intrinsics, name)(*arguments)


def _pointer(kind: str) -> Any:
    """Name `f(address)`, which a compiled function indexes like an array of that kind."""
    return Later(partial(_made, "pointer", np.dtype(kind)))


floats = _pointer("f8")
ints = _pointer("i4")
longs = _pointer("i8")
octets = _pointer("u1")
job_at = record_at(JOB)
shown_job_at = record_at(JOB, shown="job", writable=WRITABLE)
"""What policies get."""
drafted_job_at = record_at(JOB, shown="drafted_job")
shown_step_at = record_at(DRAFTING, shown="step", writable=("scratch",))
"""What controllers of drafts get."""
step_at = record_at(DRAFTING)
system_at = record_at(SYSTEM)
answer: Any = Later(partial(_made, "answer"))
"""`f(address, ...)`: what a policy or controller says, whose compiled function is at the address."""
