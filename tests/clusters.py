"""Real clusters for tests, as docs/cluster.md has them started, with workers that say what they replayed."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from commands import SCRIPT, plain_environment

BIN = SCRIPT.parent
PAGE = (Path(__file__).parents[1] / "docs/cluster.md").read_text()
PRINTED = re.findall(r"```bash\n(.*)\n```", PAGE)
MINE = re.search(r"```python\n(def .*?)```", PAGE, re.DOTALL)[1]
KINDS = {
    "dask": pytest.param(
        "dask", marks=pytest.mark.skipif(not find_spec("distributed"), reason="Dask is not installed")
    ),
    "ray": pytest.param("ray", marks=pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")),
}
WATCH = """
import importlib.util, os, pickle, sys, zlib

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

            def watched(keys, task, parts):
                done, what = outcome(keys, task, parts), pickle.loads(task)
                if not isinstance(what, int):
                    what = zlib.crc32(repr((what.spec, what.engine, what.look, what.seed)).encode())
                with open({log!r}, "a") as log:
                    log.write(f"{{os.getpid()}} {{what}}\\n")
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
    """Return (process, cell) for every cell that a worker replayed to its end, by its number, or a hash of it."""
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


def wait_for(what, patience_s=150, told=""):
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


def printed(start, ports):
    """Return the docs' command that begins so, on this machine and ports of our own."""
    (line,) = [line for line in PRINTED if line.startswith(start) or line.endswith(start)]
    line = line.replace("HOST", "127.0.0.1")
    for there, here in ports.items():
        line = re.sub(rf"\b{there}\b", str(here), line)
    return line


def written(folder):
    """Return what is in the files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@contextlib.contextmanager
def cluster(kind, room, *, alone=False):
    """Start what the docs print, or its head alone, and give the address and the docs' replay."""
    env, ports = environment(room), {"8786": free_port(), "6379": free_port(), "10001": free_port()}
    head, port, more = {
        "dask": ("dask scheduler", ports["8786"], "dask worker"),
        "ray": ("ray start --head", ports["10001"], "ray start --address"),
    }[kind]
    with started(printed(head, ports), room, env, "head"):
        wait_for(lambda: listens(port), told=(room / "head.log").read_text())
        with contextlib.nullcontext() if alone else started(printed(more, ports), room, env, "worker"):
            yield (
                f"{kind}://127.0.0.1:{port}",
                printed(f"--on {kind}://HOST:{'8786' if kind == 'dask' else '10001'}", ports),
            )
