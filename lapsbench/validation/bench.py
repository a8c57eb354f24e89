"""The parent's side of the child that measures: started once a session, asked as often as needed."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from lapsbench.errors import LapsbenchError
from lapsbench.execution.process import ONE_THREAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.validation.asked import Measure
    from lapsbench.vllm.wanted import Step

Line = dict[str, Any]
"""A step that was taken: what it was, and its seconds as a whole, on the target, and drafting."""
KV_GIB = {"VLLM_CPU_KVCACHE_SPACE": "1"}
"""Two of vLLM's engines share the machine; steps are measured in less memory than is served in."""


class Bench:
    """An engine in a process of its own, whose steps are timed.

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
            env=ONE_THREAD | KV_GIB | os.environ,
        )
        assert self.child.stdin is not None  # noqa: S101 - a pipe was asked for
        pickle.dump(asked, self.child.stdin)
        self.child.stdin.flush()
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout, self.said):
            if stream is not None:
                stream.close()

    def measure(self, sets: Sequence[Sequence[Step]]) -> list[Line]:
        """Take steps; return what each took."""
        assert self.child.stdin is not None  # noqa: S101 - a pipe was asked for
        self.child.stdin.write(json.dumps([[asdict(step) for step in steps] for steps in sets]).encode() + b"\n")
        self.child.stdin.flush()
        lines: list[Line] = self._answer()["taken"]
        return lines

    def _answer(self) -> dict[str, Any]:
        """Return its next line."""
        assert self.child.stdout is not None  # noqa: S101 - a pipe was asked for
        line = self.child.stdout.readline()
        if not line:
            self.child.wait()
            self.said.seek(0)
            lines = self.said.read().decode(errors="replace").strip().splitlines() or ["without a word"]
            what = f"died while steps were measured: {lines[-1][:300]}"
            raise LapsbenchError(what, where="the engine", hint="the same command again: finished cells are kept")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            what, where, hint = answer["error"]
            self.__exit__()
            raise LapsbenchError(what, where=where, hint=hint)
        return answer
