"""Cells in processes of this machine, by loky, joblib's own backend for that."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor

from lapsbench.machines.pool import Lost, losing

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from lapsbench.machines.parcel import Part


class LocalPool:
    """So many processes; what is sent to them lies in files that each reads once."""

    def __init__(self, place: str, processes: int) -> None:
        self.place, self.processes = place, processes
        self.folder = tempfile.TemporaryDirectory(prefix="lapsbench-parts-")
        self._lock = threading.RLock()
        self._start()

    def _start(self) -> None:
        self.executor = ProcessPoolExecutor(self.processes)
        self._dead, self._ended = set[int](), False

    def slots(self) -> int:
        """Return the number of processes.

        Raises:
            Lost: one has been dead for a while, and loky does not know: it waits for the rest of what that one was
                sending, which also holds the lock that the others need to send anything.
        """
        with self._lock:
            before, self._dead = self._dead, self._died()
            if before & self._dead and self.executor._flags.broken is None:  # noqa: SLF001 - as `_died`
                self._end()
            if self._ended:
                raise Lost("a process that was answering")
        return self.processes

    def _died(self) -> set[int]:
        """Return which processes of the pool were killed."""
        return {pid for pid, each in list(self.executor._processes.items()) if each.exitcode}  # noqa: SLF001 - no API

    def _end(self) -> None:
        """End what is left of the pool: the last end of the pipe that loky waits at is our own."""
        for each in list(self.executor._processes.values()):  # noqa: SLF001 - as above
            each.terminate()
        self.executor._result_queue._writer.close()  # noqa: SLF001 - as above
        self._ended = True

    def send(self, part: Part) -> Path:
        """Write a part to disk."""
        path = Path(self.folder.name) / part.key
        with self._lock:
            if not path.exists():
                path.write_bytes(part.content)
        return path

    def submit(self, call: Callable[..., Any], *given: Any) -> Future[Any]:
        """Ask for a call."""
        with losing((BrokenProcessPool,), lambda: False):
            found: Future[Any] = self.executor.submit(call, *given)
        return found

    def result(self, future: Future[Any]) -> Any:
        """Return what a call that is done returned."""
        with losing((BrokenProcessPool, CancelledError), lambda: False):  # all are broken with one
            return future.result()

    def again(self) -> bool:
        """Start processes in place of those that broke with one."""
        with self._lock:
            if self._ended or self.executor._flags.broken is not None:  # noqa: SLF001 - else each lost call starts anew
                self.executor.shutdown(wait=False, kill_workers=True)
                self._start()
        return True

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            if self._died() and not self._ended:
                self._end()
        self.executor.shutdown(wait=True, kill_workers=True)
        with contextlib.suppress(OSError):
            self.folder.cleanup()
