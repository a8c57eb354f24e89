"""Arrays by address: one small record stands for a whole replay, so compiled functions take one pointer.

Why not a named tuple of the same forty arrays: Numba passes each as seven arguments and counts references wherever a
field is touched. Compiling this kernel took 85 s as nested named tuples, 150 s with `inline="always"`, and takes a
tenth of that this way. The arrays are owned on the Python side (`kernel.Replay`), which outlives every call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import from_dtype, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from lapsbench.core import JOB, SYSTEM
from lapsbench.sim.state import HIDDEN


def address(array: NDArray[Any]) -> int:
    """Return where the array's data begins; it must be contiguous, and stay alive as long as the address is used."""
    if not array.flags.c_contiguous:
        raise ValueError("only contiguous arrays have an address")
    return int(array.ctypes.data)


def _pointer(kind: Any) -> Any:
    """Make `f(address)`, which a compiled function indexes like an array of `kind`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    def typed(_context: Any, address: Any) -> Any:  # noqa: ARG001 - its type is what counts
        return types.CPointer(kind)(types.int64), generate

    return intrinsic(typed)


def _record(dtype: np.dtype[np.void]) -> Any:
    """Make `f(address, i)`, which a compiled function uses like `array[i]` of records."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        offset = builder.mul(args[1], context.get_constant(types.int64, dtype.itemsize))
        return builder.inttoptr(builder.add(args[0], offset), context.get_value_type(signature.return_type))

    def typed(_context: Any, address: Any, i: Any) -> Any:  # noqa: ARG001 - as above
        return from_dtype(dtype)(types.int64, types.int64), generate

    return intrinsic(typed)


floats = _pointer(types.float64)
ints = _pointer(types.int32)
longs = _pointer(types.int64)
octets = _pointer(types.uint8)
job_at = _record(JOB)
hidden_at = _record(HIDDEN)
system_at = _record(SYSTEM)
