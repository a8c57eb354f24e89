"""Times 400 cells on one and on two workers, in processes of this machine, on Dask and on Ray: `make bench` runs it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps import made

from lapsbench.boiling import Boiling
from lapsbench.machines import opened
from lapsbench.machines.cells import replayed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lapsbench.sim.sweep import Sweep

REQUESTS = 5_000
POLICIES, LOADS, SEEDS = ("fcfs", "srpt", "laps-sd", "srpt-work"), (0.6, 0.7, 0.8, 0.9), 25
TURNS = 2
BIN = Path(sys.executable).parent


def main() -> None:
    sweep = made(REQUESTS, POLICIES, LOADS, SEEDS)
    cells = sweep.plan.cells
    print(
        f"{len(cells)} cells of {REQUESTS:,} requests, best of {TURNS} turns; {os.cpu_count()} cores, which also run "
    )
    print("who asks and, with Dask and Ray, the scheduler\n")
    began = time.perf_counter()
    list(sweep.run())
    print(f"in this process (--jobs 1) {time.perf_counter() - began:.1f} s\n")
    print("| --on  | 1 worker | 2 workers | ratio |")
    print("|-------|---------:|----------:|------:|")
    for kind, place in {"local": local, "dask": dask, "ray": ray}.items():
        one, two = (timed(sweep, place, workers) for workers in (1, 2))
        print(f"| {kind:5} | {one:6.1f} s | {two:7.1f} s | {two / one:5.2f} |", flush=True)


def timed(sweep: Sweep, place, workers: int) -> float:  # noqa: ANN001 - one of the three below
    """Return the seconds that all cells take there, once everybody has what it needs."""
    boil = Boiling(None, sweep.capacity_rps)
    with place(workers) as address, opened(address) as machines:
        list(replayed(machines, sweep, sweep.plan.cells[: 20 * workers], boil))
        best = float("inf")
        for _ in range(TURNS):
            began = time.perf_counter()
            assert len(list(replayed(machines, sweep, sweep.plan.cells, boil))) == len(sweep.plan.cells)  # noqa: S101
            best = min(best, time.perf_counter() - began)
        return best


@contextlib.contextmanager
def local(workers: int) -> Iterator[str]:
    yield f"local:{workers}"


@contextlib.contextmanager
def dask(workers: int) -> Iterator[str]:
    port = free_port()
    worker = f"dask worker tcp://127.0.0.1:{port} --nworkers {workers} --nthreads 1 --no-dashboard"
    with running(f"dask scheduler --host 127.0.0.1 --port {port} --no-dashboard", port), running(worker):
        yield f"dask://127.0.0.1:{port}"


@contextlib.contextmanager
def ray(workers: int) -> Iterator[str]:
    port = free_port()
    line = f"ray start --head --block --port {free_port()} --ray-client-server-port {port} --num-cpus {workers}"
    with running(f"{line} --disable-usage-stats", port):
        yield f"ray://127.0.0.1:{port}"


@contextlib.contextmanager
def running(line: str, port: int | None = None) -> Iterator[None]:
    """Run a command in the background, once it listens, and end it and what it started."""
    name, *rest = line.split()
    with tempfile.TemporaryFile() as log:
        options = {"stdout": log, "stderr": log, "start_new_session": True}
        with subprocess.Popen([str(BIN / name), *rest], **options) as process:
            try:
                while port is not None and not listens(port):
                    time.sleep(0.1)
                yield
            finally:
                os.killpg(process.pid, signal.SIGTERM)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
