"""Cells on a Ray cluster, as a client of it: Ray does again what a dead worker was doing.

Not through Ray's backend for joblib: that hands nothing out before all is done, so that a lost connection loses all,
and on a cluster of one CPU it replays here.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

from lapsbench.errors import LapsbenchError
from lapsbench.machines.pool import AGAIN_S, losing, reach, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.machines.parcel import Part

TRIES = 2
"""A busy head may take longer to start what serves a client than Ray waits for that."""


class RayPool:
    """A Ray cluster, reached through its client server.

    Raises:
        LapsbenchError: nobody answers, or not as Ray.
    """

    def __init__(self, place: str, host: str, port: int) -> None:
        self.place, self.host, self.port = place, host, port
        self._lock = threading.RLock()
        self._connect()

    def slots(self) -> int:
        """Return how many CPUs the cluster has now."""
        with self._losing():
            return int(ray.cluster_resources().get("CPU", 0))

    def send(self, part: Part) -> Any:
        """Put a part where every machine gets it once."""
        with self._lock, self._losing():
            if part.key not in self.sent:
                self.sent[part.key] = ray.put(np.frombuffer(part.content, np.uint8))
            return self.sent[part.key]

    def submit(self, call: Callable[..., Any], *given: Any) -> cf.Future[Any]:
        """Ask for a call."""
        answer: cf.Future[Any] = cf.Future()
        with self._lock, self._losing():
            if call not in self.calls:
                self.calls[call] = ray.remote(num_cpus=1, max_retries=3)(call)
            asked = self.calls[call].remote(*given)
            # not Ray's own future to whoever asks: cancelled, it breaks the thread that would settle it
            asked.future().add_done_callback(lambda done: settle(answer, done.result))
        answer.add_done_callback(lambda answer: self._drop(asked) if answer.cancelled() else None)
        return answer

    def _drop(self, asked: Any) -> None:
        with contextlib.suppress(Exception):  # as in `close`
            ray.cancel(asked)

    def result(self, future: cf.Future[Any]) -> Any:
        """Return what a call that is done returned."""
        with self._losing():
            try:
                return future.result()
            except RayTaskError as error:  # a RayError, but of the call itself
                failed = error.cause
        raise failed

    def again(self) -> bool:
        """Wait for a cluster there."""
        deadline, anew = time.monotonic() + AGAIN_S, False
        with self._lock:
            while not self._answers():
                anew = True
                try:
                    self.close()
                    self._connect()
                except LapsbenchError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.5)
        return anew

    def _losing(self) -> contextlib.AbstractContextManager[None]:
        lost = (RayError, cf.CancelledError, ConnectionError)
        return losing(lost, lambda: not self._answers(), deadly=(WorkerCrashedError, OutOfMemoryError))

    def close(self) -> None:
        """Leave the cluster; what it still does for us is dropped."""
        with contextlib.suppress(Exception):  # a connection that is gone may say so in any way
            ray.shutdown()

    def _answers(self) -> bool:
        try:
            ray.cluster_resources()
        except Exception:  # noqa: BLE001 - as above
            return False
        return True

    def _connect(self) -> None:
        hint = f"ray start --head --ray-client-server-port {self.port} on {self.host}"
        reach(self.place, self.host, self.port, hint)
        self.sent: dict[str, Any] = {}
        self.calls: dict[Any, Any] = {}
        failed: Exception | None = None
        for _ in range(TRIES):
            try:
                ray.init(f"ray://{self.host}:{self.port}", logging_level=logging.CRITICAL, log_to_driver=False)
            except (ConnectionError, RuntimeError, ValueError, RayError) as error:
                self.close()
                failed = error
            else:
                return
        told = " ".join(str(failed).split())[:200]
        raise LapsbenchError(f"does not let us in ({told})", where=f"--on {self.place}", hint=hint) from failed
