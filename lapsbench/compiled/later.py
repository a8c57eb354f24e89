"""What Numba makes of our functions once it compiles who uses them: a warm start never does, and never imports it."""

from __future__ import annotations

from functools import cached_property, partial, update_wrapper
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Later:
    """Something of Numba's, made when it is called, or when Numba asks what type it has.

    `py_func`: the Python it is compiled from, if any.
    """

    def __init__(self, make: Callable[[], Any], py_func: Callable[..., Any] | None = None) -> None:
        self.make, self.py_func = make, py_func

    @cached_property
    def made(self) -> Any:
        """What it stands for."""
        return self.make()

    @property
    def _numba_type_(self) -> Any:
        """Numba looks for this on whatever it does not know."""
        from numba.core.registry import cpu_target  # noqa: PLC0415 - not before somebody compiles

        made, context = self.made, cpu_target.typing_context
        context.refresh()  # an intrinsic that was just made is not known yet
        return context.resolve_value_type(made)

    def __call__(self, *arguments: Any) -> Any:
        """Call what it stands for, compiled."""
        return self.made(*arguments)

    def __reduce__(self) -> str:
        """Say where it is found by another process."""
        return str(getattr(self, "__qualname__", ""))


def later(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorate a function that compiled ones call; the options are `numba.njit`'s."""
    if function is None:
        return partial(later, **options)
    return update_wrapper(Later(partial(_compiled, function, options), function), function)


def _compiled(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    from lapsbench.compiled.compiler import njit  # noqa: PLC0415 - imports Numba

    return njit(**options)(function)


helper: Any = later(error_model="numpy", nogil=True)
"""For what policies share."""
