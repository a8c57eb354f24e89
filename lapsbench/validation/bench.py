"""The parent's side of the child that measures and serves: started once a session, asked as often as needed."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from lapsbench.errors import LapsbenchError
from lapsbench.execution.process import ONE_THREAD, POLL_S
from lapsbench.validation.probing import Probes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lapsbench.execution.wanted import Serve
    from lapsbench.validation.asked import Measure
    from lapsbench.vllm.wanted import Step

Line = dict[str, Any]
"""A step that was taken: what it was, and its seconds as a whole, on the target, and drafting."""


@dataclass(frozen=True, slots=True)
class Walk:
    """Steps that were taken one after the other, and probes between them."""

    taken: list[Line]
    probes: Probes


class Bench:
    """An engine in a process of its own, whose steps are timed, and which serves.

    Raises:
        LapsbenchError: it cannot be made.
    """

    def __init__(self, asked: Measure) -> None:
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - open while the child is
        self.child = subprocess.Popen(
            (sys.executable, "-m", "lapsbench.validation.child"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env=ONE_THREAD | os.environ,
        )
        self._tell(asked)
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout, self.said):
            if stream is not None:
                stream.close()

    def measure(self, sets: Sequence[Sequence[Step]]) -> Walk:
        """Take steps; return what each took."""
        self._tell([list(steps) for steps in sets])
        answer = self._answer()
        return Walk(answer["taken"], Probes(**answer["probes"]))

    def probe(self, turns: int) -> Probes:
        """Probe so many turns; nothing is served."""
        self._tell(turns)
        return Probes(**self._answer())

    def serve(self, asked: Serve, watch: Callable[[], None]) -> Probes:
        """Serve a cell; `watch` is called several times a second. Return its probes."""
        self._tell(asked)
        assert self.child.stdout is not None  # noqa: S101 - a pipe was asked for
        while not select.select([self.child.stdout], [], [], POLL_S)[0]:
            watch()
        probes = Probes(**self._answer())
        watch()
        return probes

    def _tell(self, task: Any) -> None:
        assert self.child.stdin is not None  # noqa: S101 - a pipe was asked for
        with contextlib.suppress(BrokenPipeError):  # it is dead: its answer says so
            pickle.dump(task, self.child.stdin)
            self.child.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        """Return its next line."""
        assert self.child.stdout is not None  # noqa: S101 - a pipe was asked for
        line = self.child.stdout.readline()
        if not line:
            self.child.wait()
            self.said.seek(0)
            lines = self.said.read().decode(errors="replace").strip().splitlines() or ["without a word"]
            what = f"died: {lines[-1][:300]}"
            raise LapsbenchError(what, where="the engine", hint="the same command again: finished cells are kept")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            what, where, hint = answer["error"]
            self.__exit__()
            raise LapsbenchError(what, where=where, hint=hint)
        return answer
