"""Arrays by address, for compiled functions: what the simulator hands a policy is a handful of integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numba import from_dtype, types
from numba.core.errors import NumbaError
from numba.core.imputils import lower_setattr_generic
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import record_setattr

from lapsbench.core import DRAFTING, JOB, SYSTEM, WRITABLE

if TYPE_CHECKING:
    import numpy as np

LINE = 64
"""Bytes of a cache line."""


def sizeof(dtype: np.dtype[np.void]) -> int:
    """Return the record's size rounded up to whole cache lines."""
    return -(-dtype.itemsize // LINE) * LINE


def pointer(kind: Any) -> Any:
    """Make `f(address)`, which a compiled function indexes like an array of `kind`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    def typed(_context: Any, address: Any) -> Any:  # noqa: ARG001 - its type is what counts
        return types.CPointer(kind)(types.int64), generate

    return intrinsic(typed)


class Shown(types.Record):
    """A record of which a compiled function may set some fields only: the simulator's own counts are in it."""

    def __init__(self, record: types.Record, noun: str, writable: tuple[str, ...]) -> None:
        fields = [(name, field._asdict()) for name, field in record.fields.items()]
        super().__init__(fields, record.size, record.aligned)
        self.noun, self.writable = noun, writable
        self.name = self.name.replace("Record", f"Shown {noun}", 1)

    @property
    def key(self) -> str:
        """What types are told apart by."""
        return self.name


register_model(Shown)(models.RecordModel)


@lower_setattr_generic(Shown)
def _set(context: Any, builder: Any, signature: Any, args: Any, field: str) -> Any:
    """Set a field, by whatever name or detour; also `job["field"] = ...` comes here."""
    shown = signature.args[0]
    if field not in shown.writable:
        only = ", ".join(f"{shown.noun}.{name}" for name in shown.writable) or "nothing"
        raise NumbaError(f"cannot write {shown.noun}.{field}: one may write only {only}")
    return record_setattr(context, builder, signature, args, field)


def record_at(
    dtype: np.dtype[np.void],
    *,
    after: np.dtype[np.void] | None = None,
    shown: str = "",
    writable: tuple[str, ...] = (),
) -> Any:
    """Make `f(address, i)`, which a compiled function uses like `sim.memory.records(...)[i]`.

    With `after`, a record of that kind lies at the address, and the one that is meant behind it. With `shown`, its
    noun, the function may set the `writable` fields alone.
    """
    size, kind, skipped = sizeof(dtype), from_dtype(dtype), sizeof(after) if after is not None else 0
    kind = Shown(kind, shown, writable) if shown else kind

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        offset = builder.mul(args[1], context.get_constant(types.int64, size))
        offset = builder.add(offset, context.get_constant(types.int64, skipped))
        return builder.inttoptr(builder.add(args[0], offset), context.get_value_type(signature.return_type))

    def typed(_context: Any, address: Any, i: Any) -> Any:  # noqa: ARG001 - as above
        return kind(types.int64, types.int64), generate

    return intrinsic(typed)


floats = pointer(types.float64)
ints = pointer(types.int32)
longs = pointer(types.int64)
octets = pointer(types.uint8)
job_at = record_at(JOB)
shown_job_at = record_at(JOB, shown="job", writable=WRITABLE)
"""What policies get."""
drafted_job_at = record_at(JOB, shown="drafted_job")
shown_step_at = record_at(DRAFTING, shown="step", writable=("scratch",))
"""What controllers of drafts get."""
step_at = record_at(DRAFTING)
system_at = record_at(SYSTEM)
