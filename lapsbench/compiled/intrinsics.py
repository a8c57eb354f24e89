"""What `pointers` names, for Numba: only who compiles imports this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numba import from_dtype, types
from numba.core import cgutils
from numba.core.errors import NumbaError
from numba.core.imputils import lower_setattr_generic
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import record_setattr

if TYPE_CHECKING:
    import numpy as np


def pointer(dtype: np.dtype[Any]) -> Any:
    """Make `f(address)`, which a compiled function indexes like an array of that kind."""
    kind = from_dtype(dtype)

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
    size: int,
    skipped: int,
    shown: str,
    writable: tuple[str, ...],
) -> Any:
    """Make what `pointers.record_at` says, of records that lie `size` apart, `skipped` behind the address."""
    kind: Any = from_dtype(dtype)
    kind = Shown(kind, shown, writable) if shown else kind

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        offset = builder.mul(args[1], context.get_constant(types.int64, size))
        offset = builder.add(offset, context.get_constant(types.int64, skipped))
        return builder.inttoptr(builder.add(args[0], offset), context.get_value_type(signature.return_type))

    def typed(_context: Any, address: Any, i: Any) -> Any:  # noqa: ARG001 - as above
        return kind(types.int64, types.int64), generate

    return intrinsic(typed)


def answer() -> Any:
    """Make `f(address, ...)`: it calls a compiled function as Numba's own do, so what that raises comes through."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, convention = signature.args[1:], context.call_conv
        kind = convention.get_function_type(signature.return_type, kinds)
        callee = builder.inttoptr(args[0], kind.as_pointer())
        status, result = convention.call_function(builder, callee, signature.return_type, kinds, args[1:])
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return result

    def typed(_context: Any, address: Any, first: Any, second: Any, count: Any, last: Any) -> Any:  # noqa: ARG001
        return types.float64(*[types.int64] * 5), generate

    return intrinsic(typed)
