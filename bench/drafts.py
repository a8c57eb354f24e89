"""What drafts that vary are worth: mean JCT of each single k and controller, by rate, over the best single k.

PASS or FAIL for what is claimed of them: by-batch is at no rate more than 1 % worse than that rate's best k, and better
on the mean over the rates than any single k; goodput within 2 % of by-batch; and what they cost in time. Flags cut the
grid: `--rates 2,11 --engines vllm --ks 0,3,8 --controllers by-batch,goodput --policies fcfs,srpt-work --seeds 1`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from workload import Case, prepare_case

from lapsbench.acceptance.readers import read_acceptance
from lapsbench.core import Engine, Profile
from lapsbench.policies.predictors import parse_predictor
from lapsbench.policies.registry import find
from lapsbench.schedules import BY_BATCH, written
from lapsbench.sim import kernel
from lapsbench.sim.best_drafts import ceiling, schedule
from lapsbench.sim.cost import step_costs
from lapsbench.sim.setup import set_up
from lapsbench.sim.sweep import Plan, Sweep
from lapsbench.store.profile import open_profile
from lapsbench.store.published import NAME
from lapsbench.traces import open_trace

if TYPE_CHECKING:
    from collections.abc import Sequence

NEVER_WORSE, GOODPUT = 1.01, 1.02
SLOWER = {BY_BATCH: 1.15, "goodput": 1.3}
"""How much longer a round may take than at a fixed k."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What is replayed."""

    profile: Profile
    trace: str
    max_batch: int
    rates: tuple[float, ...]
    seeds: int

    def engine(self, rules: str, drafts: str) -> Engine:
        """Return the engine of a single k, or of a controller."""
        memory = {"kv_tokens": int(self.profile.provenance.get("kv_tokens") or 0)} if rules == "vllm" else {}
        make = partial(Engine, max_batch=self.max_batch, rules=rules, **memory)
        if drafts.isdecimal():
            return make(draft_tokens=int(drafts))
        most = ceiling(self.profile)
        text = written(schedule(self.profile, self.max_batch, most)) if drafts == BY_BATCH else ""
        return make(draft_tokens=most, drafts=drafts, schedule=text)

    def sweep(self, rules: str, drafts: str, policies: Sequence[str], rate: float) -> Sweep:
        """Return the replays of one setting at one rate."""
        plan = Plan(
            trace=open_trace(self.trace),
            profile=self.profile,
            engine=self.engine(rules, drafts),
            predictor=parse_predictor("noisy:sigma=0.5"),
            policies=tuple(map(find, policies)),
            loads=(None,),
            rate_rps=rate,
            seeds=tuple(range(self.seeds)),
        )
        return Sweep(plan)

    def mean_jct_s(self, rules: str, drafts: str, policies: Sequence[str], rate: float) -> dict[str, float]:
        """Return the mean JCT over seeds, by policy."""
        found: dict[str, list[float]] = {name: [] for name in policies}
        for result in self.sweep(rules, drafts, policies, rate).run():
            found[result.cell.name].append(float(np.nanmean(result.outcome.finished_s - result.work.arrival_s)))
        return {name: statistics.fmean(values) for name, values in found.items()}


def main() -> int:
    """Replay the grid, print tables and verdicts; 1 where something claimed does not hold."""
    flags = _flags()
    profile = open_profile(flags.profile)
    if flags.bank:
        bank = read_acceptance(flags.bank).bank
        profile = Profile(f"{profile.name} with {flags.bank}", profile.costs, bank, profile.provenance)
    rates = tuple(float(each) for each in flags.rates.split(","))
    grid = Grid(profile, flags.trace, flags.max_batch, rates, flags.seeds)
    ks = [k for k in flags.ks.split(",") if int(k) <= ceiling(profile)]
    controllers, policies = flags.controllers.split(","), flags.policies.split(",")
    print(f"{flags.trace} on {profile.name}, batch {flags.max_batch}, {flags.seeds} seeds")
    failed = []
    for rules in flags.engines.split(","):
        found = {
            (drafts, rate): grid.mean_jct_s(rules, drafts, policies, rate)
            for drafts in [*ks, *controllers]
            for rate in rates
        }
        for policy in policies:
            ratios = _table(rules, policy, ks, controllers, rates, found)
            failed += _claims(f"{rules} {policy}", ratios, ks) if policy == "fcfs" else []
        if flags.speed:
            failed += _speed(grid, rules, controllers)
    return 1 if failed else 0


def _table(
    rules: str, policy: str, ks: list[str], controllers: list[str], rates: Sequence[float], found: Any
) -> dict[str, list[float]]:
    """Print mean JCT over that rate's best single k, and return it."""
    best = {rate: min((found[k, rate][policy], int(k)) for k in ks) for rate in rates}
    print(f"\n{rules}, {policy}: mean JCT over the best single k's at that rate")
    print(f"{'drafts':>16}" + "".join(f"{f'{rate:g} req/s':>12}" for rate in rates) + f"{'mean':>10}")
    ratios = {}
    for drafts in [*ks, *controllers]:
        ratios[drafts] = [found[drafts, rate][policy] / best[rate][0] for rate in rates]
        line = "".join(f"{ratio:12.3f}" for ratio in ratios[drafts])
        print(f"{drafts:>16}{line}{statistics.fmean(ratios[drafts]):10.3f}")
    print(f"{'best k':>16}" + "".join(f"{best[rate][1]:12d}" for rate in rates))
    print(f"{'its JCT, s':>16}" + "".join(f"{best[rate][0]:12.3f}" for rate in rates))
    return ratios


def _claims(where: str, ratios: dict[str, list[float]], ks: list[str]) -> list[str]:
    """Print what holds, and return what does not."""
    claims = []
    if BY_BATCH in ratios:
        mine, single = ratios[BY_BATCH], min(statistics.fmean(ratios[k]) for k in ks)
        claims.append((max(mine) <= NEVER_WORSE, f"by-batch at worst {max(mine):.3f} of the best single k"))
        mean = statistics.fmean(mine)
        claims.append((mean < single, f"by-batch on the mean {mean:.3f}, the best single k {single:.3f}"))
        if "goodput" in ratios:
            worst = max(one / other for one, other in zip(ratios["goodput"], mine, strict=True))
            claims.append((worst <= GOODPUT, f"goodput at worst {worst:.3f} of by-batch"))
    return _judged(where, claims)


def _speed(grid: Grid, rules: str, controllers: list[str]) -> list[str]:
    """Time replays of `make bench`'s case in turns, by round, over a fixed k of 3."""
    settings = ["3", *controllers]
    case = prepare_case(19_366)
    ready = {name: _ready(case, grid.engine(rules, name), grid.profile) for name in settings}
    times: dict[str, list[float]] = {name: [] for name in settings}
    for _ in range(21):
        for name, arguments in ready.items():
            began_s = time.perf_counter()
            outcome = kernel.replay(*arguments)
            times[name].append((time.perf_counter() - began_s) / outcome.rounds.sum())
    claims = []
    for name in controllers:
        ratio = statistics.median(mine / fixed for mine, fixed in zip(times[name], times["3"], strict=True))
        claims.append((ratio <= SLOWER.get(name, 1e9), f"a round under {name} takes {ratio:.2f} x one at k = 3"))
    return _judged(f"{rules} speed", claims)


def _ready(case: Case, engine: Engine, profile: Profile) -> Any:
    fcfs = find("fcfs")
    work, setup = set_up(case.work, engine, fcfs, case.single, None)
    arguments = (work, engine, fcfs, step_costs(profile, engine), setup)
    kernel.replay(*arguments)
    return arguments


def _judged(where: str, claims: list[tuple[bool, str]]) -> list[str]:
    for holds, text in claims:
        print(f"{'PASS' if holds else 'FAIL'}  {where}: {text}")
    return [text for holds, text in claims if not holds]


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default=NAME)
    parser.add_argument("--bank", help="a file of recorded acceptance instead of the profile's")
    parser.add_argument("--trace", default="chat")
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument("--rates", default="2,5,8,11,14,17")
    parser.add_argument("--engines", default="ideal,vllm")
    parser.add_argument("--ks", default="0,1,2,3,4,5,6,7,8")
    parser.add_argument("--controllers", default="by-batch,goodput,ema,per-request,oracle-k")
    parser.add_argument("--policies", default="fcfs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--speed", action="store_true", help="time the controllers, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
