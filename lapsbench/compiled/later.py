"""What Numba makes of our functions once it compiles who uses them: a warm start never does, and never imports it."""

from __future__ import annotations

from functools import cached_property, partial, update_wrapper
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Later:
    """Something of Numba's, made when Numba first asks what type it has."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

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


class Function(Later):
    """A function that compiled ones call.

    `py_func`: the Python it is compiled from.
    """

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        super().__init__(partial(_compiled, function, **options, no_cpython_wrapper=True, no_cfunc_wrapper=True))
        self.py_func, self.options = function, options
        update_wrapper(self, function)

    @cached_property
    def called(self) -> Any:
        """What Python calls: apart, as what is made for compiled functions may be no machine code yet."""
        return _compiled(self.py_func, **self.options)

    def __call__(self, *arguments: Any) -> Any:
        """Call it, compiled."""
        return self.called(*arguments)

    def __reduce__(self) -> str:
        """Say where another process finds it."""
        return self.py_func.__qualname__


def later(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorate a function that compiled ones call; the options are `numba.njit`'s."""
    return partial(later, **options) if function is None else Function(function, options)


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    from lapsbench.compiled.compiler import njit  # noqa: PLC0415 - imports Numba

    return njit(**options)(function)


helper: Any = later(error_model="numpy", nogil=True)
"""For what policies share."""
