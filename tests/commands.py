"""Run `lapsbench` as a user would: in this process, which is quick, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from lapsbench.cli import main

SCRIPT = Path(sys.executable).with_name("lapsbench")
AZURE = "traces/AzureLLMInferenceTrace_conv.csv"
"""A public trace, for the fixture `public`."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def fine(self):
        """Return itself, or fail with what the command said."""
        assert self.code == 0, self.err
        return self


def lapsbench(line, cwd):
    """Run a command line in this process; it ends as it would in its own."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    argv = mock.patch.object(sys, "argv", ["lapsbench", *shlex.split(line)])
    environment = mock.patch.dict(os.environ, plain_environment(), clear=True)
    hears = signal.getsignal(signal.SIGINT)
    with argv, environment, contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            signal.signal(signal.SIGINT, hears)
    return Done(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def process(line, cwd, **options):
    """Run a command line in a process of its own; `options` are those of `subprocess.run`."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120, **options}
    done = subprocess.run([SCRIPT, *shlex.split(line)], check=False, cwd=cwd, env=plain_environment(), **options)
    return Done(done.returncode, *((stream or b"").decode() for stream in (done.stdout, done.stderr)))


@contextlib.contextmanager
def running(command, cwd, environment=None, **options):
    """Start a process and give it; in the end it is killed, else one that hangs would be waited for without end."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=cwd, env=environment or plain_environment(), **pipes | options) as started:
        try:
            yield started
        finally:
            started.kill()


def plain_environment():
    """Return this environment without what would colour or widen output."""
    unwanted = ("FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PYTHONIOENCODING")
    return {name: value for name, value in os.environ.items() if name not in unwanted}
