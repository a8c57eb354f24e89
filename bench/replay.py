"""Times the simulator per policy against fcfs written by hand in C, and checks the project's targets: `make bench`.

Every size runs in a process of its own, whose peak memory is the whole path's: read, prepare, replay. A replay and the
yardstick take turns, so that whatever else the machine does hits both; a ratio is the median over such pairs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

from publicdata import public_path
from workload import ASSIGN, AZURE, ENGINE, INSTEAD, LOAD, PREDICTOR, PROFILE, READ, Case, prepare_case
from yardstick import Yardstick

from lapsbench.policies.registry import builtin, find
from lapsbench.sim import kernel
from lapsbench.sim.setup import set_up

README = Path(__file__).with_name("README.md")
MARKS = ("<!-- table -->", "<!-- end of table -->")
SIZES = (19_366, 100_000, 1_000_000)
BIG = 1_000_000
REPEAT_UP_TO = 500_000  # requests: a size is repeated more often until it has replayed so many

FCFS_LIMIT = 2.0
ANY_LIMIT = 5.0
GROWTH_LIMIT = 12.0
READY_LIMIT = 1.0
PEAK_LIMIT_BYTES = 2.5e9

PEERS = """For orientation, the same 19,366 requests on 2 cores, one policy (handed down, not measured by this script):
inference-lab (Rust) 1.4 to 2.5 s, BLIS (Go) 7 to 118 s, AISimulate 16 s, sched-sim (Python) 22 s, Vidur 109 s."""


@dataclass(frozen=True, slots=True)
class Row:
    """One policy at one size. `ratio` is to the yardstick, None without a compiler."""

    policy: str
    requests: int
    request_rounds: int
    preemptions: float
    median_s: float
    best_s: float
    ratio: float | None
    wrong: list[str] = field(default_factory=list)  # results that are not the yardstick's; fcfs only

    @property
    def ns_per_round(self) -> float:
        """Nanoseconds per request-round, median."""
        return self.median_s / self.request_rounds * 1e9

    @property
    def requests_per_s(self) -> float:
        """Requests replayed per second of ours."""
        return self.requests / self.median_s


@dataclass(frozen=True, slots=True)
class Size:
    """All that was measured at one size."""

    requests: int
    rows: list[Row]
    yardstick_ns_per_round: float | None
    prepare_s: dict[str, float]
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Target:
    """A number and the limit it must keep."""

    name: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether it is kept."""
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"{'PASS' if self.met else 'FAIL'}  {self.name}: {self.value:.2f}, at most {self.limit:g}"


def main() -> int:
    options = parsed()
    if public_path(AZURE) is None:
        said = f"{AZURE} is not on this machine (make public-data gets it)"
        print(f"{said}: replaying the shipped {INSTEAD!r} trace, tiled, instead", file=sys.stderr)
    sizes = []
    for requests in options.sizes:
        print(f"{requests:,} requests ...", file=sys.stderr)
        with ProcessPoolExecutor(1, get_context("spawn")) as alone:
            sizes.append(alone.submit(measure, requests, options.policies, options.repeats).result())
    goals = targets(sizes)
    wrong = [f"WRONG {row.policy} at {row.requests:,}: {row.wrong}" for size in sizes for row in size.rows if row.wrong]
    report = "\n\n".join([*(table(size) for size in sizes), "\n".join([*map(str, goals), *wrong]), PEERS])
    print(report)
    if options.out:
        options.out.write_text(json.dumps([asdict(size) for size in sizes], indent=1) + "\n")
    if options.markdown:
        before, _, rest = README.read_text().partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        README.write_text(f"{before}{MARKS[0]}\n\n{as_markdown(report, goals)}\n\n{MARKS[1]}{after}")
    return 0 if all(goal.met for goal in goals) and not wrong else 1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], default=list(SIZES))
    parser.add_argument("--policies", type=lambda text: text.split(","), default=list(builtin()))
    parser.add_argument("--repeats", type=int, default=3, help="at the largest sizes; smaller ones more often")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    parser.add_argument("--markdown", action="store_true", help="put the tables into bench/README.md")
    return parser.parse_args()


def measure(requests: int, policies: list[str], repeats: int) -> Size:
    """Prepare one size and time every policy."""
    case = prepare_case(requests)
    repeats = max(repeats, min(REPEAT_UP_TO // requests, 10 * repeats))
    with tempfile.TemporaryDirectory() as folder:
        try:
            loop = Yardstick(Path(folder))
        except FileNotFoundError as missing:
            print(f"{missing}: the yardstick is skipped, and with it every ratio", file=sys.stderr)
            loop = None
        timed = [time_policy(case, name, repeats, loop) for name in policies]
    paces = [pace for _, pace in timed if pace is not None]
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pace = statistics.median(paces) if paces else None
    return Size(requests, [row for row, _ in timed], pace, case.prepare_s, peak_bytes)


def time_policy(case: Case, name: str, repeats: int, loop: Yardstick | None) -> tuple[Row, float | None]:
    """Replay and yardstick in turns; return the row and the yardstick's nanoseconds per request-round."""
    policy = find(name)
    work, setup = set_up(case.work, ENGINE, policy, case.single, case.calibration)
    kernel.compiled(policy)
    ours, theirs = [], []
    for _ in range(repeats):
        if loop is not None:
            hand = loop.run(case.work, ENGINE, case.costs)
            theirs.append(hand.seconds)
        began = time.perf_counter()
        outcome = kernel.replay(work, ENGINE, policy, case.costs, setup)
        ours.append(time.perf_counter() - began)
    rounds = int(outcome.rounds.sum())
    row = Row(
        policy=policy.label,
        requests=len(work),
        request_rounds=rounds,
        preemptions=float(outcome.preemptions.mean()),
        median_s=statistics.median(ours),
        best_s=min(ours),
        ratio=statistics.median(a / b for a, b in zip(ours, theirs, strict=True)) if theirs else None,
        wrong=hand.differs(outcome) if loop is not None and name == "fcfs" else [],
    )
    return row, statistics.median(theirs) / rounds * 1e9 if theirs else None


def targets(sizes: list[Size]) -> list[Target]:
    """List what is to be kept, as far as these sizes tell."""
    found = []
    for size in sizes:
        ratios = {row.policy: row.ratio for row in size.rows if row.ratio is not None}
        if "fcfs" in ratios:
            found.append(Target(f"fcfs at {size.requests:,}, times the yardstick", ratios["fcfs"], FCFS_LIMIT))
        if size.requests >= BIG:
            ready_s = size.prepare_s[READ] + size.prepare_s[ASSIGN]
            for row in size.rows:
                if row.policy == "fcfs":
                    name = f"CSV to workload at {size.requests:,} ({ready_s:.2f} s), times fcfs ({row.median_s:.2f} s)"
                    found.append(Target(name, ready_s / row.median_s, READY_LIMIT))
            if ratios:
                slowest = max(ratios, key=lambda name: ratios[name])
                name = f"slowest policy ({slowest}) at {size.requests:,}, times the yardstick"
                found.append(Target(name, ratios[slowest], ANY_LIMIT))
            found.append(Target(f"peak GB at {size.requests:,}", size.peak_bytes / 1e9, PEAK_LIMIT_BYTES / 1e9))
    by_size = {size.requests: {row.policy: row.best_s for row in size.rows} for size in sizes}
    if BIG in by_size and BIG // 10 in by_size:
        growth = {name: took / by_size[BIG // 10][name] for name, took in by_size[BIG].items()}
        steepest = max(growth, key=lambda name: growth[name])
        name = f"time from {BIG // 10:,} to {BIG:,} requests, steepest policy ({steepest}), times"
        found.append(Target(name, growth[steepest], GROWTH_LIMIT))
    return found


def table(size: Size) -> str:
    """Lay one size out as Markdown that is also good to read in a terminal."""
    pace = size.yardstick_ns_per_round
    yardstick = f"C yardstick {pace:.1f} ns per request-round" if pace else "no yardstick"
    steps = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in size.prepare_s.items())
    lines = [
        f"**{size.requests:,} requests**: {yardstick}; peak memory {size.peak_bytes / 1e9:.2f} GB; before: {steps}",
        "",
        f"| {'policy':20} | ns/round | requests/s | preemptions/request | x yardstick |      |",
        f"|:{'-' * 20}-|{'-' * 9}:|{'-' * 11}:|{'-' * 20}:|{'-' * 12}:|------|",
    ]
    for row in size.rows:
        limit = FCFS_LIMIT if row.policy == "fcfs" else ANY_LIMIT
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        judged = "" if row.ratio is None else "PASS" if row.ratio <= limit else "FAIL"
        lines.append(
            f"| {row.policy:20} | {row.ns_per_round:8.1f} | {row.requests_per_s:10,.0f} "
            f"| {row.preemptions:19.2f} | {ratio:>11} | {judged:4} |"
        )
    return "\n".join(lines)


def as_markdown(report: str, goals: list[Target]) -> str:
    """Make each target a line of its own."""
    for goal in goals:
        report = report.replace(f"{goal}", f"- {goal}")
    setting = (
        f"B = {ENGINE.max_batch}, k = {ENGINE.draft_tokens}, load {LOAD}, predictor {PREDICTOR}, profile {PROFILE}"
    )
    return f"{setting}, {time.strftime('%Y-%m-%d')}.\n\n{report}"


if __name__ == "__main__":
    sys.exit(main())
