"""Fuzz the readers for a while: `python tests/fuzz.py [SECONDS [FIRST SEED]]`; exits with 1 and the case that fails.

Anything on stderr that looks like a panic of native code counts as a failure, too.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from mutations import CHECKS, damaged

BATCH = 400
MOST_BYTES = 4 << 30
"""Of memory, for a batch of files of a few lines, beyond what was mapped: allocators keep 45 MB of addresses each."""


def run(seconds, first):
    """Fuzz for so long; return how many files were tried of each kind."""
    began, tried, turn = time.monotonic(), {check.__name__: 0 for _, check in CHECKS}, first
    while time.monotonic() - began < seconds:
        for files, check in CHECKS:
            turn += 1
            _limit_memory()
            _batch(files, check, turn, tried)
    return tried


def _limit_memory():
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MOST_BYTES, resource.RLIM_INFINITY))


def _batch(files, check, turn, tried):
    quiet = settings(
        max_examples=BATCH,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate, Phase.shrink],
    )

    @seed(turn)
    @quiet
    @given(case=damaged(files))
    def one(case):
        tried[check.__name__] += 1
        check(*case)

    one()


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    warnings.simplefilter("error")
    with tempfile.TemporaryFile() as native:
        kept = os.dup(2)
        os.dup2(native.fileno(), 2)
        try:
            tried = run(seconds, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
        finally:
            os.dup2(kept, 2)
            native.seek(0)
            said = native.read().decode(errors="replace")
    print(", ".join(f"{name} {count:,}" for name, count in tried.items()), f"in {seconds:g} s")
    if said.strip():
        print("stderr said:", said[:2000])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
