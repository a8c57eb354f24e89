"""Cells in processes of this machine, by loky, joblib's own backend for that."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor

from lapsbench.machines.pool import losing

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
        self.executor = ProcessPoolExecutor(processes)

    def slots(self) -> int:
        """Return the number of processes."""
        return self.processes

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
            if self.executor._flags.broken is not None:  # noqa: SLF001 - else each call that was lost would start anew
                self.executor.shutdown(wait=False, kill_workers=True)
                self.executor = ProcessPoolExecutor(self.processes)
        return True

    def close(self) -> None:
        """End the processes."""
        self.executor.shutdown(wait=True, kill_workers=True)
        with contextlib.suppress(OSError):
            self.folder.cleanup()
