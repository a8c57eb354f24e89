"""What a machine does that is asked for a task: see that it is the same lapsbench, open the parts, do it.

A process opens a part once and keeps it for later tasks. The first one of a machine to replay anything compiles the
simulator, and the others wait for it: a hundred would take as many minutes of its cores.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import pickle
import socket
import tempfile
import threading
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version_tuple
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from lapsbench import __version__
from lapsbench.errors import LapsbenchError
from lapsbench.machines.parcel import unpacked
from lapsbench.machines.sources import as_typed
from lapsbench.replay import ROOMS, code_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMPILING_S = 600
"""So long a process waits for another that compiles, and then compiles for itself."""
BESIDE = ("machines", "metrics", "store", "tuning", "boiling.py", "schema.py")
"""What a cell's numbers and file depend on beside its outcome."""
PARTS, ERRANDS = 32, 8
"""Held ready at a time."""
_lock = threading.RLock()
_ready: set[str] = set()


@cache
def home() -> dict[str, str]:
    """Return what must be the same wherever cells of one run are replayed, for their bytes to be."""
    return {
        "lapsbench": f"{__version__} ({code_key((*ROOMS, *BESIDE))[:12]})",
        "Python": ".".join(python_version_tuple()[:2]),
        "NumPy": version("numpy"),
        "Numba": version("numba"),
        "PyArrow": version("pyarrow"),
    }


def run(theirs: dict[str, str], keys: tuple[str, ...], task: bytes, *parts: Any) -> Any:
    """Return what an errand's task returns, or the `LapsbenchError` that it is.

    Args:
        theirs: `home` of who asks.
        keys: of the parts.
        task: pickled.
        parts: of `parcel.packed`, as buffers or files.
    """
    try:
        _check_home(theirs)
        return _outcome(keys, task, parts)
    except LapsbenchError as error:
        return LapsbenchError(as_typed(error.what), where=as_typed(error.where), hint=error.hint)
    except MemoryError:
        return LapsbenchError("out of memory", where=_here(), hint="fewer processes there, or --limit N")


def _check_home(theirs: dict[str, str]) -> None:
    for what, mine in home().items():
        if mine != theirs.get(what):
            raise LapsbenchError(
                f"has {what} {mine}, and here it is {theirs.get(what)}", where=_here(), hint="installing the same there"
            )


def _here() -> str:
    return f"worker {socket.gethostname()} (process {os.getpid()})"


def _outcome(keys: tuple[str, ...], task: bytes, parts: tuple[Any, ...]) -> Any:
    with _lock:
        large = [_parts.get(key, partial(_loaded, part)) for key, part in zip(keys[1:], parts[1:], strict=True)]
        try:
            errand = _errands.get("".join(keys), lambda: unpacked(_content(parts[0]), large))
            wanted = pickle.loads(task)  # noqa: S301 - from who may run anything here anyway
        except LapsbenchError as error:
            raise LapsbenchError(error.what, where=f"{_here()}: {error.where}", hint=error.hint) from error
        if errand.rules not in _ready:
            with _compiling():
                errand.warm(wanted)
            _ready.add(errand.rules)
    return errand.do(wanted)


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """Let one process of this machine at a time compile, or load what another has compiled."""
    lock = FileLock(Path(tempfile.gettempdir()) / f"lapsbench-{getpass.getuser()}.compiling")
    held = False
    with contextlib.suppress(Timeout, OSError):  # then everybody compiles
        lock.acquire(timeout=COMPILING_S)
        held = True
    try:
        yield
    finally:
        if held:
            lock.release()


def _content(part: Any) -> Any:
    return part.read_bytes() if isinstance(part, Path) else part


def _loaded(part: Any) -> Any:
    return pickle.loads(_content(part))  # noqa: S301 - as above


class _Held:
    """The last things that were asked for, by key."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.found: dict[str, Any] = {}

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        found = self.found.pop(key, None) or make()
        self.found[key] = found  # as the last
        for old in list(self.found)[: -self.most]:
            del self.found[old]
        return found


_parts, _errands = _Held(PARTS), _Held(ERRANDS)
