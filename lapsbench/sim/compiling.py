"""Tells when Numba compiles the simulator: what it finds on disk is silent, and so is a policy's tenth of a second."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numba.core import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def told_of_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` once, when the simulator begins to be compiled, if it is."""
    with event.install_listener("numba:compile", _Listener(tell)):
        yield


class _Listener(event.Listener):
    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = tell
        self.told = False

    def on_start(self, event: Any) -> None:
        """Tell, if it is the first part of the simulator."""
        if not self.told and event.data["dispatcher"].py_func.__module__.startswith("lapsbench.sim."):
            self.told = True
            self.tell()

    def on_end(self, event: Any) -> None:
        """Tell nothing: what comes next is told by who does it."""
