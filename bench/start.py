"""What a command takes before it does anything: user CPU time over that of `import numpy, numba`, best of seven."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = 7
IMPORTS = "import numpy, numba"
CACHED = "from numba import njit\n\n@njit(cache=True)\ndef f(x):\n    return x + 1\n\nf(1)\n"
LAPSBENCH = (sys.executable, "-m", "lapsbench")
FIRST = (*LAPSBENCH, "replay", "--limit", "500", "--quiet")
REPLAY = (*LAPSBENCH, "replay", "--limit", "500", "--policy", "fcfs", "--policy", "srpt", "--quiet")


def user_s(command: tuple[str, ...], folder: str) -> float:
    """Return the user CPU time of the quickest of several runs, after one that fills caches."""
    once_s(command, folder)
    return min(once_s(command, folder) for _ in range(RUNS))


def once_s(command: tuple[str, ...], folder: str, **more: str) -> float:
    """Return the user CPU time of one run.

    Modules' bytecode is kept in the folder, as an installation keeps it, also where PYTHONDONTWRITEBYTECODE is set.
    """
    kept = os.environ | {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""} | more
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run(command, check=True, capture_output=True, env=kept)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "cached.py"  # Numba keeps its cache beside it
        script.write_text(CACHED)
        commands = {
            IMPORTS: (sys.executable, "-c", IMPORTS),
            "a function of one line from Numba's cache": (sys.executable, str(script)),
            "lapsbench --help": (*LAPSBENCH, "--help"),
            "lapsbench replay, 500 requests, two schedulers": REPLAY,
        }
        times = {name: user_s(command, folder) for name, command in commands.items()}
        first_s = once_s(FIRST, folder, NUMBA_CACHE_DIR=str(Path(folder) / "cold"))
    for name, time_s in times.items():
        print(f"{name:<50}{time_s:6.2f} s {time_s / times[IMPORTS]:6.2f}x")
    print(f"{'the first replay ever, nine schedulers':<50}{first_s:6.1f} s")


if __name__ == "__main__":
    main()
