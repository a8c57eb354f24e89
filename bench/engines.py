"""Times vLLM's rules against the ideal engine's, nanoseconds per request-round, in turns: `make bench` runs it too."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workload import ENGINE, PROFILE, Case, prepare_case

from lapsbench.policies.registry import find
from lapsbench.sim import kernel
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import step_costs
from lapsbench.sim.setup import set_up
from lapsbench.store.profile import open_profile

if TYPE_CHECKING:
    from lapsbench.core import Engine

REQUESTS = 19_366
TURNS = 15
POLICIES = ("fcfs", "sjf", "srpt", "laps-sd")
VLLM = replace(ENGINE, rules="vllm", on_preempt="recompute", draft_method="eagle")
TIGHT = replace(VLLM, kv_tokens=120_000)


@dataclass(frozen=True, slots=True)
class Kind:
    """An engine, and how many times as long as the ideal one's a round of it may take; None: told, not judged."""

    name: str
    engine: Engine
    limit: float | None


KINDS = (
    Kind("vllm, no limits", VLLM, 1.5),
    Kind("vllm, 120,000 KV tokens", TIGHT, 4.0),
    Kind("the same, no prefix cache", replace(TIGHT, prefix_cache=False), 4.0),
    Kind("vllm, no limits, async", replace(VLLM, scheduling="async"), None),
)


def main() -> int:
    case = prepare_case(REQUESTS)
    print(
        f"{REQUESTS:,} requests; nanoseconds per request-round, and times the ideal engine's, median of {TURNS} turns\n"
    )
    print(f"| {'policy':8} | {'engine':26} | ns/round | x ideal |      |")
    print(f"|:{'-' * 8}-|:{'-' * 26}-|{'-' * 9}:|{'-' * 8}:|------|")
    kept = True
    for name in POLICIES:
        for kind in KINDS:
            ns, ratio = timed(case, name, kind.engine)
            judged = "" if kind.limit is None or name != "fcfs" else "PASS" if ratio <= kind.limit else "FAIL"
            kept &= judged != "FAIL"
            print(f"| {name:8} | {kind.name:26} | {ns:8.1f} | {ratio:7.2f} | {judged:4} |", flush=True)
    print(
        "\nJudged by fcfs, which keeps the engine as busy under both: at most 1.5 without limits, 4 with few KV blocks."
    )
    return 0 if kept else 1


def timed(case: Case, name: str, engine: Engine) -> tuple[float, float]:
    """Return nanoseconds per request-round of this engine, and how many times the ideal one's they are."""
    runs = [ready(case, name, each) for each in (ENGINE, engine)]
    for run in runs:
        kernel.replay(*run)
    paces: tuple[list[float], list[float]] = ([], [])
    for _ in range(TURNS):
        for run, pace in zip(runs, paces, strict=True):
            began = time.perf_counter()
            outcome = kernel.replay(*run)
            pace.append((time.perf_counter() - began) / int(outcome.rounds.sum()) * 1e9)
    return statistics.median(paces[1]), statistics.median(b / a for a, b in zip(*paces, strict=True))


def ready(case: Case, name: str, engine: Engine):  # noqa: ANN201 - the arguments of kernel.replay
    """Return what `kernel.replay` takes."""
    policy, costs = find(name), step_costs(open_profile(PROFILE), engine)
    work, setup = set_up(case.work, engine, policy, solo(case.work, engine, costs), case.calibration)
    return work, engine, policy, costs, setup


if __name__ == "__main__":
    sys.exit(main())
