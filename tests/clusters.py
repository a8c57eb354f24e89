"""Real clusters for tests: a Dask scheduler, a Ray head, and workers that say what they replayed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time

import psutil
from commands import SCRIPT, plain_environment

BIN = SCRIPT.parent
WATCH = """
import importlib.util, os, sys

class Watch:  # lapsbench is not imported before Dask or Ray asks for it
    def find_spec(self, name, path=None, target=None):
        if name != "lapsbench.machines.worker":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            outcome = module._outcome

            def watched(keys, number, parts):
                done = outcome(keys, number, parts)
                with open({log!r}, "a") as log:
                    log.write(f"{{os.getpid()}} {{number}}\\n")
                return done

            module._outcome = watched

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Watch())
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(room, **more):
    """Return the environment of a worker that writes down which cells it replayed."""
    site = room / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(WATCH.format(log=str(room / "replayed")))
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return plain_environment() | {"PYTHONPATH": path, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | more


def replayed(room):
    """Return (process, cell) for every cell that a worker replayed to its end."""
    lines = (room / "replayed").read_text().splitlines()
    return [tuple(map(int, line.split())) for line in lines]


@contextlib.contextmanager
def started(line, room, env, name="process"):
    """Run a shell's command line in the background, and end it and all it started."""
    options = {"cwd": room, "env": env, "stderr": subprocess.STDOUT}
    with (room / f"{name}.log").open("a") as log, subprocess.Popen(line.split(), stdout=log, **options) as running:
        try:
            yield running
        finally:
            for each in family(running.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()


def family(pid):
    """Return a process and all its children, eldest first."""
    try:
        eldest = psutil.Process(pid)
        return [eldest, *eldest.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def wait_for(what, patience_s=60, told=""):
    deadline = time.monotonic() + patience_s
    while not (found := what()):
        assert time.monotonic() < deadline, told or "it did not happen"
        time.sleep(0.05)
    return found


def listens(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def cells(folder):
    return {path.stem for path in (folder / "cells").glob("*.parquet")}
