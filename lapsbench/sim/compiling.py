"""Tells when Numba compiles, and what it compiles: what it finds on disk is silent."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numba.core import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIMULATOR = "compiling the simulator, once: about 20 s"
POLICY = "compiling policies, once"


@contextmanager
def told_of_compiling(tell: Callable[[str], None]) -> Iterator[None]:
    """Call `tell` when the simulator, or a policy, begins to be compiled; each at most once."""
    with event.install_listener("numba:compile", _Listener(tell)):
        yield


class _Listener(event.Listener):  # type: ignore[misc]  # numba ships no types
    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.told: set[str] = set()

    def on_start(self, event: Any) -> None:
        """Say what it is, unless that has been said."""
        room = event.data["dispatcher"].py_func.__module__
        what = SIMULATOR if room.startswith("lapsbench.sim.") else POLICY
        if what not in self.told:
            self.told.add(what)
            self.tell(what)

    def on_end(self, event: Any) -> None:
        """Say nothing: what comes next is said by who does it."""
