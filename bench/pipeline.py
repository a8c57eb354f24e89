"""From a file of a million requests to the printed table, fcfs once at a given rate, over the C loop: in turns."""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

from publicdata import public_path
from workload import AZURE, ENGINE, INSTEAD, PREDICTOR, PROFILE, prepare_case, tiled
from yardstick import Yardstick

from lapsbench.cli import main as lapsbench
from lapsbench.traces import open_trace
from lapsbench.traces.save import write_trace

REQUESTS, TURNS, LIMIT = 1_000_000, 3, 6.0


def main() -> int:
    """Print the ratio; 1 where it is above the limit."""
    case = prepare_case(REQUESTS)
    rate_rps = (len(case.work) - 1) / (case.work.arrival_s[-1] - case.work.arrival_s[0])
    with tempfile.TemporaryDirectory() as folder:
        path, loop = Path(folder) / "trace.parquet", Yardstick(Path(folder))
        write_trace(tiled(open_trace(str(public_path(AZURE) or INSTEAD)), REQUESTS), path)
        line = f"replay --trace {path} --profile {PROFILE} --engine ideal --max-batch {ENGINE.max_batch} --policy fcfs"
        line += f" --predict {PREDICTOR} --rate {rate_rps} --repeats 1 --quiet"
        whole_s(line)  # compiled, and warm
        ours, theirs = [], []
        for _ in range(TURNS):
            theirs.append(loop.run(case.work, ENGINE, case.costs).seconds)
            ours.append(whole_s(line))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"{REQUESTS:,} requests, from Parquet to the table: {statistics.median(ours):.2f} s, ", end="")
    print(f"{ratio:.2f} x the C loop, at most {LIMIT:g}: {'PASS' if ratio <= LIMIT else 'FAIL'}")
    return 0 if ratio <= LIMIT else 1


def whole_s(line: str) -> float:
    """Return the seconds of a command in this process."""
    sys.argv = ["lapsbench", *line.split()]
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        lapsbench()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
