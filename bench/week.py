"""Replays a week of traffic, reports and compares it: time and memory of each command, and fcfs against a million.

27.3 million requests are the conversations of Azure's week of 2024; here the hour of 2023 is repeated in time. All
files lie in a temporary folder (`--folder` says where: 8 GB) and are gone at the end. `make bench` runs it too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from publicdata import public_path
from workload import AZURE, ENGINE, INSTEAD, LOAD, PREDICTOR, PROFILE

from lapsbench.policies.predictors import parse_predictor
from lapsbench.policies.registry import find
from lapsbench.sim import kernel, prepare
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import step_costs
from lapsbench.sim.setup import set_up
from lapsbench.store.profile import open_profile
from lapsbench.traces import open_trace, scale_to_rate

WEEK = 27_300_000
MILLION = 1_000_000
POLICIES = ("fcfs", "srpt-work", "work-patient")
ENGINES = ("ideal", "vllm")
LAPSBENCH = Path(sys.executable).with_name("lapsbench")
REPLAY_LIMIT_GB, REPORT_LIMIT_GB, REPORT_LIMIT_S = 8.0, 2.0, 60.0
"""`compare` may take two reports' time: it reads two runs."""
PACE_LIMIT = 1.25
"""Pages that are touched for the first time cost 5 % where 2 GB of results are new; the rest is the machine's."""
TURNS = 3


@dataclass(frozen=True, slots=True)
class Ran:
    """One command: what it did, and what it took."""

    name: str
    seconds: float
    peak_bytes: int
    limit_gb: float
    limit_s: float = float("inf")

    @property
    def kept(self) -> bool:
        """Whether it kept its limits."""
        return self.peak_bytes / 1e9 <= self.limit_gb and self.seconds <= self.limit_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=WEEK)
    parser.add_argument("--engines", type=lambda text: text.split(","), default=list(ENGINES))
    parser.add_argument("--folder", type=Path, help="for a temporary folder (the system's)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        trace = Path(folder) / "week.parquet"
        tile(trace, options.requests)
        print(f"{options.requests:,} requests, load {LOAD}, {PROFILE}, {', '.join(POLICIES)}, one seed\n")
        print(f"| {'command':16} | seconds | peak GB | bytes/request |      |")
        print(f"|:{'-' * 16}-|{'-' * 8}:|{'-' * 8}:|{'-' * 14}:|------|")
        kept = True
        for engine in options.engines:
            for ran in commands(trace, engine, Path(folder) / engine):
                per_request = ran.peak_bytes / options.requests
                judged = "PASS" if ran.kept else "FAIL"
                print(
                    f"| {ran.name:16} | {ran.seconds:7.0f} | {ran.peak_bytes / 1e9:7.2f} | {per_request:13,.0f} "
                    f"| {judged:4} |",
                    flush=True,
                )
                kept &= ran.kept
        with ProcessPoolExecutor(1, get_context("spawn")) as alone:
            whole_ns, million_ns, ratio = alone.submit(pace, trace, MILLION).result()
    kept &= ratio <= PACE_LIMIT
    print(
        f"\n{'PASS' if ratio <= PACE_LIMIT else 'FAIL'}  fcfs, ns per request: {whole_ns:,.0f}, of the first million "
        f"alone {million_ns:,.0f}: {ratio:.2f} times, at most {PACE_LIMIT:g}"
    )
    return 0 if kept else 1


def tile(path: Path, requests: int) -> None:
    """Write a trace repeated in time, a mean gap between copies, copy by copy."""
    trace = open_trace(str(public_path(AZURE) or INSTEAD))
    period_s = trace.span_s * (1 + 1 / len(trace))
    schema = pa.schema([("arrival_s", pa.float64()), ("prompt_tokens", pa.int32()), ("output_tokens", pa.int32())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, requests, len(trace)):
            rows = slice(min(len(trace), requests - first))
            columns = [trace.arrival_s[rows] + first // len(trace) * period_s]
            columns += [trace.prompt_tokens[rows], trace.output_tokens[rows]]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=len(trace))


def commands(trace: Path, engine: str, out: Path) -> list[Ran]:
    """Replay under one engine, report, make a page, and compare with itself, which reads both sides all the same."""
    policies = [word for name in POLICIES for word in ("--policy", name)]
    options = ["--profile", PROFILE, "--load", str(LOAD), "--predict", PREDICTOR, "--repeats", "1", *policies]
    replayed = ran(
        f"replay, {engine}", REPLAY_LIMIT_GB, "replay", "--trace", trace, "--engine", engine, *options, "--out", out
    )
    reported = ran(f"report, {engine}", REPORT_LIMIT_GB, "report", out)
    drawn = ran(f"page, {engine}", REPORT_LIMIT_GB, "report", out, "--html", out / "page.html")
    compared = ran(f"compare, {engine}", REPORT_LIMIT_GB, "compare", out, out)
    shutil.rmtree(out)
    read = [replace(each, limit_s=REPORT_LIMIT_S) for each in (reported, drawn)]
    return [replayed, *read, replace(compared, limit_s=2 * REPORT_LIMIT_S)]


def ran(name: str, limit_gb: float, *words: object) -> Ran:
    """Run a command in a process of its own; what it prints goes to stderr."""
    began = time.perf_counter()
    child = os.posix_spawn(
        LAPSBENCH, [str(LAPSBENCH), *map(str, words)], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)]
    )
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{name}: exit status {os.waitstatus_to_exitcode(status)}")
    return Ran(name, time.perf_counter() - began, used.ru_maxrss * 1024, limit_gb)


def pace(path: Path, few: int) -> tuple[float, float, float]:
    """Return nanoseconds per request of fcfs on a whole trace and on its beginning, in turns, and their ratio."""
    profile, fcfs = open_profile(PROFILE), find("fcfs")
    costs, trace = step_costs(profile, ENGINE), open_trace(str(path))
    work = prepare.workload(trace, profile, ENGINE, parse_predictor(PREDICTOR), seed=0)
    single = solo(work, ENGINE, costs)
    rate_rps = LOAD * prepare.at_capacity(work, ENGINE, costs, single=single)
    whole = replace(work, arrival_s=scale_to_rate(trace, rate_rps).arrival_s)
    beginning = prepare.first_of(whole, few)
    cases = [set_up(whole, ENGINE, fcfs, single, None)]
    cases.append(set_up(beginning, ENGINE, fcfs, solo(beginning, ENGINE, costs), None))
    took: list[list[float]] = [[], []]
    for _ in range(TURNS):
        for (ready, given), times in zip(cases, took, strict=True):
            began = time.perf_counter()
            kernel.replay(ready, ENGINE, fcfs, costs, given)
            times.append((time.perf_counter() - began) / len(ready) * 1e9)
    ratio = statistics.median(all_of / start for all_of, start in zip(*took, strict=True))
    return statistics.median(took[0]), statistics.median(took[1]), ratio


if __name__ == "__main__":
    sys.exit(main())
