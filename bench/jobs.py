"""Times two policies replayed at once against one after the other, in turns: `make bench` runs it too."""

from __future__ import annotations

import statistics
import sys
import time

from sweeps import made

TURNS = 9
LIMIT = 0.6
REQUESTS = 100_000
POLICIES = ("fcfs", "sjf")


def main() -> int:
    sweep = made(REQUESTS, POLICIES, loads=(0.9,), seeds=1)
    list(sweep.run())
    took: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(TURNS):
        for jobs, seconds in took.items():
            began = time.perf_counter()
            list(sweep.run(jobs))
            seconds.append(time.perf_counter() - began)
    ratio = statistics.median(two / one for one, two in zip(took[1], took[2], strict=True))
    one, two = (statistics.median(took[jobs]) for jobs in (1, 2))
    kept = ratio <= LIMIT
    print(f"{' and '.join(POLICIES)}, {REQUESTS:,} requests, median of {TURNS} turns")
    print(
        f"one after the other {one:.3f} s, at once (--jobs 2) {two:.3f} s, ratio {ratio:.2f}, at most {LIMIT}: ", end=""
    )
    print("PASS" if kept else "FAIL")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
