"""Arrays by address: one small record stands for a whole replay, so compiled functions take one pointer.

Why not a named tuple of the same forty arrays: Numba passes each as seven arguments and counts references wherever a
field is touched. Compiling this kernel took 85 s as nested named tuples, 150 s with `inline="always"`, and takes a
tenth of that this way. The arrays are owned on the Python side (`kernel.Replay`), which outlives every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import JOB
from lapsbench.policies.pointers import LINE, job_at, longs, record_at, sizeof
from lapsbench.sim.jit import inlined
from lapsbench.sim.state import HIDDEN, PART, SIM, TIMER

if TYPE_CHECKING:
    from numpy.typing import NDArray


def address(array: NDArray[Any]) -> int:
    """Return where the array's data begins; it must be contiguous, and stay alive as long as the address is used."""
    if not array.flags.c_contiguous:
        raise ValueError("only contiguous arrays have an address")
    return int(array.ctypes.data)


def padded(dtype: np.dtype[np.void]) -> np.dtype[np.void]:
    """Return the record with that size."""
    fields: Any = dtype.fields
    names: Any = dtype.names
    kinds, offsets = zip(*(fields[name][:2] for name in names), strict=True)
    return np.dtype({"names": names, "formats": kinds, "offsets": offsets, "itemsize": sizeof(dtype)})


def records(count: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Return zeroed records, each on cache lines of its own."""
    layout = padded(dtype)
    return lines(count * layout.itemsize).view(layout)


def lines(size: int) -> NDArray[np.uint8]:
    """Return zeroed bytes that begin on a cache line."""
    room = np.zeros(size + LINE, np.uint8)
    first = -address(room) % LINE
    return room[first : first + size]


own_at = record_at(HIDDEN, after=JOB)
"""What the simulator knows of the job whose `core.JOB` lies at an address: it lies behind it."""
timer_at = record_at(TIMER)
part_at = record_at(PART)
sim_at = record_at(SIM)


@inlined
def own_of(sim: Any, job: int) -> Any:
    """Return what the simulator knows of a job; of one that has left, that it has left."""
    return own_at(longs(sim.blocks_at)[job], 0)


@inlined
def view_of(sim: Any, job: int) -> Any:
    """Return what a job's policy sees of it."""
    return job_at(longs(sim.blocks_at)[job], 0)
