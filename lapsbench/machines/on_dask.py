"""Cells on a Dask cluster: the scheduler is told of calls and does again what a dead worker was doing.

Not through joblib's backend for Dask: it never hears of a task whose worker was killed once too often, or of one that
was cancelled with its scheduler, and waits for ever.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from distributed import Client, KilledWorker

from lapsbench.errors import LapsbenchError
from lapsbench.machines.pool import AGAIN_S, CONNECT_S, losing, reach, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.machines.parcel import Part

LOST = (cf.CancelledError, OSError, TimeoutError)
"""What a future raises whose call did not end: CommClosedError is an OSError."""


class DaskPool:
    """A scheduler and its workers.

    Raises:
        LapsbenchError: nobody answers, or there is no worker.
    """

    def __init__(self, place: str, host: str, port: int) -> None:
        self.place, self.host, self.port = place, host, port
        self._lock = threading.RLock()
        self._connect()

    def slots(self) -> int:
        """Return how many threads the workers have now."""
        with self._losing():
            return sum(self.client.nthreads().values())

    def send(self, part: Part) -> Any:
        """Scatter a part to every worker; later ones get it from them."""
        with self._lock, self._losing():
            held = self.sent.get(part.key)
            if held is None or held.status != "finished":
                data = np.frombuffer(part.content, np.uint8)
                held = self.sent[part.key] = self.client.scatter(data, broadcast=True, hash=False)
            return held

    def submit(self, call: Callable[..., Any], *given: Any) -> cf.Future[Any]:
        """Ask for a call."""
        answer: cf.Future[Any] = cf.Future()
        with self._losing():
            # not the client's executor: its futures stay open for ever where a result is lost with what it was made of
            future = self.client.submit(call, *given, pure=False)
            # the time it takes to be made again, if it went with its worker
            future.add_done_callback(lambda done: settle(answer, lambda: done.result(timeout=AGAIN_S)))
        answer.add_done_callback(lambda answer: future.cancel() if answer.cancelled() else None)
        return answer

    def result(self, future: cf.Future[Any]) -> Any:
        """Return what a call that is done returned."""
        with self._losing():
            return future.result()

    def again(self) -> bool:
        """Wait for a scheduler and a worker there."""
        deadline, anew = time.monotonic() + AGAIN_S, False
        with self._lock:
            while True:
                try:
                    if self.client.status != "running":
                        anew = True
                        self.close()
                        self._connect()
                    self._await_worker()
                except LapsbenchError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.5)
                else:
                    return anew

    def close(self) -> None:
        """Leave the cluster; what it still does for us is dropped."""
        with contextlib.suppress(*LOST):
            self.client.close(timeout=2)

    def _connect(self) -> None:
        reach(self.place, self.host, self.port, f"dask scheduler --port {self.port} on {self.host}")
        self.sent: dict[str, Any] = {}
        address = f"tcp://{self.host}:{self.port}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other versions of this and that: `worker.home` sees to it
                self.client = Client(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            what = f"no Dask scheduler answers there ({type(error).__name__})"
            raise LapsbenchError(what, where=f"--on {self.place}", hint="the address the scheduler prints") from error
        self._await_worker()

    def _await_worker(self) -> None:
        try:
            self.client.wait_for_workers(1, timeout=CONNECT_S)
        except (*LOST, ValueError) as error:  # ValueError: the client is closed
            hint = f"dask worker tcp://{self.host}:{self.port} on every machine"
            raise LapsbenchError("has no workers", where=f"--on {self.place}", hint=hint) from error

    def _losing(self) -> contextlib.AbstractContextManager[None]:
        return losing(LOST, lambda: self.client.status != "running", deadly=(KilledWorker,))
