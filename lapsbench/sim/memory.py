"""Arrays by address: one small record stands for a whole replay, so compiled functions take one pointer.

Why not a named tuple of the same forty arrays: Numba passes each as seven arguments and counts references wherever a
field is touched. Compiling this kernel took 85 s as nested named tuples, 150 s with `inline="always"`, and takes a
tenth of that this way. The arrays are owned on the Python side (`kernel.Replay`), which outlives every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lapsbench.policies.pointers import LINE, record_at, sizeof
from lapsbench.sim.state import HIDDEN, TIMER

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
    """Return zeroed records for `job_at` and `hidden_at`, each on cache lines of its own."""
    layout = padded(dtype)
    room = np.zeros(count * layout.itemsize + LINE, np.uint8)
    first = -address(room) % LINE
    return room[first : first + count * layout.itemsize].view(layout)


def _prefetch(_context: Any, address: Any) -> Any:  # noqa: ARG001 - as above
    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        octet, whole = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [octet, whole, whole, whole])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        write, keep, data = whole(1), whole(3), whole(1)
        builder.call(function, [builder.inttoptr(args[0], octet), write, keep, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


prefetch: Any = intrinsic(_prefetch)
"""Ask for the cache line at an address that will be written soon."""
hidden_at = record_at(HIDDEN)
timer_at = record_at(TIMER)
