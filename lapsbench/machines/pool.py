"""What a cluster must do to replay cells: be sent things, be asked for calls, say what was lost, be reached again."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, Protocol

from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from lapsbench.machines.parcel import Part

CONNECT_S = 10.0
"""So long an address may take to answer."""
AGAIN_S = 60.0
"""So long it may be away, or without a worker, once it was there."""


class Lost(Exception):  # noqa: N818 - not what went wrong, but what is to be asked for again
    """A call, or what it needs, was lost with who had it; nobody knows of an outcome.

    Args:
        what: in words.
        deadly: every process that took the call was lost.
    """

    def __init__(self, what: str, *, deadly: bool = False) -> None:
        super().__init__(what)
        self.deadly = deadly


class Pool(Protocol):
    """Processes somewhere.

    Attributes:
        place: as after `--on`.
    """

    place: str

    def slots(self) -> int:
        """Return how many calls run at a time now."""

    def send(self, part: Part) -> Any:
        """Send a part to everybody, if that is still to be done, and return what a call names it by."""

    def submit(self, call: Callable[..., Any], *given: Any) -> Future[Any]:
        """Ask for a call; what was sent is given as `send` returned it."""

    def result(self, future: Future[Any]) -> Any:
        """Return what a call that is done returned.

        Raises:
            Lost: it was lost.
        """

    def again(self) -> bool:
        """Be there again, after something was lost; say whether all that was asked for before is lost as well.

        Raises:
            LapsbenchError: it cannot be reached.
        """

    def close(self) -> None:
        """Let go of it, and of what runs there for us."""


def reach(place: str, host: str, port: int, hint: str) -> None:
    """See whether anybody listens there, before a library that waits and writes about it is asked to.

    Raises:
        LapsbenchError: nobody does.
    """
    try:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise LapsbenchError(f"nobody answers there ({reason})", where=f"--on {place}", hint=hint) from error


@contextlib.contextmanager
def losing(
    kinds: tuple[type[Exception], ...], gone: Callable[[], bool], deadly: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn errors of these kinds, and any of somebody who is gone, into `Lost`."""
    try:
        yield
    except Lost:
        raise
    except Exception as error:
        if not isinstance(error, (*kinds, *deadly)) and not gone():
            raise
        raise Lost(type(error).__name__, deadly=isinstance(error, deadly)) from error


def settle(answer: Future[Any], result: Callable[[], Any]) -> None:
    """Give a future its result, or what getting it raises, unless nobody wants it any more."""
    if answer.set_running_or_notify_cancel():
        try:
            answer.set_result(result())
        except BaseException as error:  # noqa: BLE001 - it has to go somewhere
            answer.set_exception(error)
