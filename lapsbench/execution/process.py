"""Starts a child that serves, asks it one thing, watches it, and says in one line how it ended if that was not well.

A child ends when this process does, however it ends: it reads what this process holds open.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING, Any

from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.execution.wanted import Asked

CHILD = (sys.executable, "-m", "lapsbench.execution.child")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
"""One thread's CPU time is to be all of it."""
POLL_S = 0.2
TAIL_BYTES = 4000


def ask(asked: Asked, watch: Callable[[], None] = lambda: None, done: Callable[[], str] = lambda: "") -> dict[str, Any]:
    """Ask a child, and return what it answers.

    Args:
        asked: what to do.
        watch: called several times a second.
        done: says how far it had got, for the error where it dies.

    Raises:
        LapsbenchError: it could not do it, or died.
    """
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(  # noqa: S603 - ourselves
            CHILD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, start_new_session=True
        )
        try:
            _tell(child, asked)
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(POLL_S)
                    break
                watch()
            watch()
            answer = _answer(child)
        finally:
            _end(child)
        if "error" in answer:
            usage, what, where, hint = answer["error"]
            raise (UsageError if usage else LapsbenchError)(what, where=where, hint=hint)
        if not answer or "failed" in answer:
            raise _failed(child, answer.get("failed", ""), said, done())
        return answer


def _tell(child: subprocess.Popen[bytes], asked: Asked) -> None:
    """Write to its stdin, and leave that open."""
    assert child.stdin is not None  # noqa: S101 - a pipe was asked for
    with contextlib.suppress(BrokenPipeError):  # it is dead: its answer says so
        pickle.dump(asked, child.stdin)
        child.stdin.flush()


def _answer(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert child.stdout is not None  # noqa: S101 - a pipe was asked for
    try:
        answer = json.loads(child.stdout.read())
    except ValueError:
        return {}
    return dict(answer)


def _end(child: subprocess.Popen[bytes]) -> None:
    """See that it is gone, with what it started: it has a session of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left, or only the dead
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def _failed(child: subprocess.Popen[bytes], reason: str, said: IO[bytes], done: str) -> LapsbenchError:
    """Return what to say of a child that did not do it: in the engine's words, else how it ended."""
    if not reason and child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        hint = "fewer places or KV tokens: the system may have run out of memory" if name == "SIGKILL" else ""
        what = f"was killed by {name}{done}"
        return LapsbenchError(what, where="the engine", hint=hint or "the same command again: finished cells are kept")
    if not reason:
        said.seek(0, 2)
        said.seek(max(0, said.tell() - TAIL_BYTES))
        lines = [line.strip() for line in said.read().decode(errors="replace").splitlines() if line.strip()]
        reason = lines[-1][:300] if lines else f"it ended with code {child.returncode}"
    return LapsbenchError(f"{reason}{done}", where="the engine", hint="other settings: finished cells are kept")
