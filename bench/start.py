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
REPLAY = (*LAPSBENCH, "replay", "--limit", "500", "--policy", "fcfs", "--policy", "srpt", "--quiet")


def user_s(command: tuple[str, ...], folder: str) -> float:
    """Return the user CPU time of the quickest of several runs, after one that fills caches.

    Modules' bytecode is kept in the folder, as an installation keeps it, also where PYTHONDONTWRITEBYTECODE is set.
    """
    kept = os.environ | {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
    times = []
    for _ in range(RUNS + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run(command, check=True, capture_output=True, env=kept)
        times.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    return min(times[1:])


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
    for name, time_s in times.items():
        print(f"{name:<50}{time_s:6.2f} s {time_s / times[IMPORTS]:6.2f}x")


if __name__ == "__main__":
    main()
