"""Check what is claimed of the schedulers that count the prompt, line by line, on real lengths and real acceptance.

Every line compares mean JCT over seeds, paired; PASS, or FAIL with the interval. Without public data (`make
public-data`) the lines that need it are left out, and that is said. Flags cut the grid: `--only 1c`, `--where conv`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
from findings import BANKS, DRAFTS, lapsbench
from publicdata import public_path

from lapsbench.core import Engine, Profile, Trace
from lapsbench.metrics.intervals import Interval, Sums, ratio_interval
from lapsbench.policies.predictors import parse_predictor
from lapsbench.policies.registry import find
from lapsbench.sim.cost import step_costs
from lapsbench.sim.prepare import at_capacity, workload
from lapsbench.sim.sweep import Plan, Sweep
from lapsbench.store.profile import open_profile
from lapsbench.store.published import NAME
from lapsbench.traces import open_trace
from lapsbench.traces.shape import cut

if TYPE_CHECKING:
    from collections.abc import Iterator

NOISY = "noisy:sigma=0.5"
AZURE = {"conv": "traces/AzureLLMInferenceTrace_conv.csv", "code": "traces/AzureLLMInferenceTrace_code.csv"}
MINE = ("srpt-work", "least-work")


@dataclass(frozen=True, slots=True)
class Case:
    """One replay: where, on what, and how busy, as a share of the ideal engine's capacity."""

    trace: str
    batch: int
    load: float = 0.9
    bank: str = ""
    engine: str = "ideal"
    predict: str = NOISY
    kv_tokens: int = 0
    prefix_cache: bool = True

    def __str__(self) -> str:
        """Say what differs between cases."""
        vllm = f"vllm kv {self.kv_tokens or 'all'} cache {'on' if self.prefix_cache else 'off'}"
        engine = vllm if self.engine == "vllm" else self.engine
        return f"{self.trace} {self.bank or 'shipped'} {engine} batch {self.batch} load {self.load} {self.predict}"

    def missing(self) -> bool:
        """Say whether it takes public data that is not here."""
        needs = [AZURE[name] for name in AZURE if name in self.trace] + ([BANKS[self.bank]] if self.bank else [])
        return any(public_path(name) is None for name in needs)


@cache
def profile_of(bank: str) -> Profile:
    """Return the shipped costs, with a real bank."""
    if not bank:
        return open_profile(NAME)
    out = Path(mkdtemp(prefix="lapsbench-work-")) / bank
    flags = ("--cost", NAME, "--prompt-tokens", "1155", "--quiet", "--out", str(out))
    lapsbench("profiles", "import", str(public_path(BANKS[bank])), *flags)
    return open_profile(str(out))


@cache
def trace_of(name: str) -> Trace:
    """Return a trace; `-busy` is the busiest quarter of an hour of it, and a number how many requests of it."""
    base, _, part = name.partition("-")
    trace = open_trace(str(public_path(AZURE[base])) if base in AZURE else base)
    if part == "busy":
        return cut(trace, window=(1500.0, 2400.0))
    return cut(trace, limit=int(part or 5000))


def engines(case: Case) -> tuple[Engine, Engine]:
    """Return the engine, and the ideal one whose capacity says what the load is."""
    ideal = Engine(case.batch, DRAFTS.get(case.bank, 3))
    if case.engine == "ideal":
        return ideal, ideal
    rules: Any = {"rules": "vllm", "on_preempt": "recompute", "prefix_cache": case.prefix_cache}
    return replace(ideal, kv_tokens=case.kv_tokens, **rules), ideal


@cache
def rate_of(trace: str, bank: str, batch: int, load: float) -> float:
    """Return requests per second."""
    profile, engine = profile_of(bank), engines(Case(trace, batch, bank=bank))[1]
    work = workload(trace_of(trace), profile, engine, parse_predictor("oracle"), 0)
    return load * at_capacity(work, engine, step_costs(profile, engine))


@dataclass(frozen=True, slots=True)
class Found:
    """Mean and p99 of JCT, by policy, a value a seed."""

    mean_s: dict[str, list[float]]
    p99_s: dict[str, list[float]]

    def over(self, policy: str, other: str, *, p99: bool = False) -> Interval:
        """Return a policy's over another's, with its interval."""
        values = self.p99_s if p99 else self.mean_s
        ones = np.ones(len(values[policy]))
        if not np.isfinite(values[policy]).all():
            return Interval(np.inf, np.inf, np.inf)
        upper, lower = (Sums(np.array(values[name]), ones) for name in (policy, other))
        return ratio_interval(upper, lower, serial=False)


def replay(case: Case, policies: tuple[str, ...], seeds: int) -> Found:
    """Replay a case under some policies."""
    rate = rate_of(case.trace, case.bank, case.batch, case.load)
    plan = Plan(
        trace=trace_of(case.trace),
        profile=profile_of(case.bank),
        engine=engines(case)[0],
        predictor=parse_predictor(case.predict),
        policies=tuple(find(policy) for policy in policies),
        loads=(None,),
        rate_rps=rate,
        seeds=tuple(range(seeds)),
    )
    names = dict(zip([cell.name for cell in plan.cells], policies * seeds, strict=True))
    found = Found({policy: [] for policy in policies}, {policy: [] for policy in policies})
    for result in Sweep(plan).run(jobs=1):
        jct_s, policy = result.outcome.finished_s - result.work.arrival_s, names[result.cell.name]
        lost = bool(result.outcome.stopped)
        found.mean_s[policy].append(np.inf if lost else float(np.nanmean(jct_s)))
        found.p99_s[policy].append(np.inf if lost else float(np.nanquantile(jct_s, 0.99)))
    return found


@dataclass(frozen=True, slots=True)
class Line:
    """A claim: `policy` over the best of `others` is at most `most`.

    Attributes:
        proven: it fails only where the interval says, too, that the policy is worse.
        p99: of that, not of the mean.
    """

    name: str
    case: Case
    policy: str
    others: tuple[str, ...]
    most: float
    proven: bool = False
    p99: bool = False

    def judge(self, found: Found) -> tuple[bool, str]:
        """Say whether it holds, and by what."""
        mean_s = {name: sum(found.mean_s[name]) for name in self.others}
        best = min(mean_s, key=mean_s.__getitem__)
        ratio = found.over(self.policy, best, p99=self.p99)
        value, low, high = (1.0 if each is None else each for each in (ratio.value, ratio.low, ratio.high))
        bad = value > self.most and low > 1.0 if self.proven else value > self.most
        what = f"{self.policy} over {best}{' p99' * self.p99}"
        return not bad, f"{what} {value:.3f} [{low:.3f} to {high:.3f}], at most {self.most:g}"


def lines() -> Iterator[Line]:
    """Yield every claim."""
    chat = Case("chat", 64)
    for policy in MINE:
        yield Line("1a", chat, policy, ("srpt",), 0.85)
    yield Line("1a", chat, "work-patient", ("fcfs",), 0.80)
    yield Line("1a", chat, "work-patient", ("fcfs",), 1.35, p99=True)
    for batch, policy in product((8, 64), MINE):
        yield Line("1b", Case("code", batch), policy, ("srpt",), 0.70)
    grid = product(("chat", "conv", "code"), ("", *BANKS), (1, 8, 64), (0.7, 0.9), ("ideal", "vllm"))
    for trace, bank, batch, load, engine in grid:
        busy = trace.replace("conv", "conv-busy") if batch == 64 else trace
        yield Line("1c", Case(busy, batch, load, bank, engine), "srpt-work", ("srpt",), 1.005, proven=True)
    for (trace, batch), kv_tokens, cached in product(
        (("chat", 64), ("conv", 16), ("code-3000", 8)), (0, 60_000), (False, True)
    ):
        case = Case(trace, batch, engine="vllm", kv_tokens=kv_tokens, prefix_cache=cached)
        for policy in MINE:
            yield Line("2", case, policy, ("work",), 1.03, proven=True)
    grid = product(("classes", "none", "oracle"), ("chat", "conv"), (1, 8), (0.7, 0.9), ("ideal", "vllm"))
    for predict, trace, batch, load, engine in grid:
        case = Case(trace, batch, load, engine=engine, predict=predict)
        yield Line("3", case, "least-work", ("srpt", "srpt-work"), 1.01, proven=True)


def main() -> int:
    """Print a line a claim; return 1 if one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="lines whose name begins so")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--where", default="", help="cases whose text holds this")
    parser.add_argument("--failed", action="store_true", help="print only what fails")
    asked = parser.parse_args()
    chosen: dict[Case, list[Line]] = {}
    for line in lines():
        if line.name.startswith(asked.only) and asked.where in str(line.case):
            chosen.setdefault(line.case, []).append(line)
    bad = 0
    for case, claims in chosen.items():
        if case.missing():
            print(f"left out without public data: {case}", file=sys.stderr)
            continue
        named = {name for line in claims for name in (line.policy, *line.others)}
        found = replay(case, tuple(sorted(named)), asked.seeds)
        for line in claims:
            fine, what = line.judge(found)
            bad += not fine
            if not fine or not asked.failed:
                print(f"{'PASS' if fine else 'FAIL'}  {line.name:3s} {case}: {what}", flush=True)
    print(f"{bad} of {sum(map(len, chosen.values()))} fail")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
