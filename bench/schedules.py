"""What drafts that vary are worth over the best single k, by profile, batch limit, order and engine: docs/findings.md.

Mean JCT over that of the best single k at each rate, as the mean over the rates and, in brackets, the worst of them. A
single k is the one that is best at all rates together. Banks that are not on this machine are left out
(`make public-data`). Flags cut the table: `--seeds 1 --policies fcfs --engines vllm --only "68m 64" --controllers ema`.
"""

from __future__ import annotations

import argparse
import statistics
from typing import TYPE_CHECKING

from drafts import Grid
from publicdata import public_path

from lapsbench.acceptance.readers import read_acceptance
from lapsbench.core import Profile
from lapsbench.sim.best_drafts import ceiling
from lapsbench.store.profile import open_profile
from lapsbench.store.published import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CPU = "cpu-smollm2-135m"
BANKS = {
    "68m": "acceptance/specbench_vicuna-7b_sps-68m.jsonl",
    "llama": "acceptance/specdecodebench_llama3.1-8b_sharegpt.jsonl",
    "gsm8k": "acceptance/specdecodebench_llama3.1-8b_gsm8k.jsonl",
}
"""Of these each position has its own run, so that every k is exact up to 8."""
H100 = "2,5,8,11,14,17"
SETTINGS = (
    ("H100", NAME, 8, "2,4,6,7"),
    ("H100", NAME, 64, H100),
    ("H100", NAME, 256, "2,8,14,17,20"),
    ("68m", NAME, 64, "2,5,8,11,14"),
    ("llama", NAME, 64, H100),
    ("gsm8k", NAME, 64, H100),
    ("CPU ngram", f"{CPU}-ngram", 16, "0.04,0.08,0.108"),
    ("CPU drop", f"{CPU}-drop", 16, "0.04,0.08,0.1"),
    ("CPU int4", f"{CPU}-int4", 16, "0.04,0.08,0.1"),
)
"""What is drafted for, on which costs, places, requests a second."""


def settings(only: str) -> Iterator[tuple[str, Profile, int, tuple[float, ...]]]:
    """Yield what is on this machine."""
    for name, costs, batch, rates in SETTINGS:
        profile = open_profile(costs)
        if name in BANKS:
            path = public_path(BANKS[name])
            if path is None:
                continue
            profile = Profile(name, profile.costs, read_acceptance(path).bank, profile.provenance)
        if only in f"{name} {batch}":
            yield name, profile, batch, tuple(map(float, rates.split(",")))


def rows(grid: Grid, rules: str, policies: Sequence[str], controllers: Sequence[str]) -> Iterator[list[str]]:
    """Yield a row a policy: the best k at each rate, the best at all, and the controllers."""
    ks = [str(k) for k in range(min(8, ceiling(grid.profile)) + 1)]
    found = {
        (drafts, rate): grid.mean_jct_s(rules, drafts, policies, rate)
        for drafts in [*ks, *controllers]
        for rate in grid.rates
    }
    for policy in policies:
        best = {rate: min(ks, key=lambda k: found[k, rate][policy]) for rate in grid.rates}
        over = {
            drafts: [found[drafts, rate][policy] / found[best[rate], rate][policy] for rate in grid.rates]
            for drafts in [*ks, *controllers]
        }
        single = min(ks, key=lambda k: statistics.fmean(over[k]))
        told = [_told(over[each]) for each in (single, *controllers)]
        yield [policy, rules, " ".join(best.values()), f"k = {single}: {told[0]}", *told[1:]]


def _told(ratios: Sequence[float]) -> str:
    return f"{statistics.fmean(ratios):.3f} ({max(ratios):.3f})"


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--policies", default="fcfs,srpt-work,laps-sd")
    parser.add_argument("--engines", default="vllm,ideal")
    parser.add_argument("--only", default="")
    parser.add_argument("--trace", default="chat")
    parser.add_argument("--controllers", default="by-batch,goodput,per-request,ema,oracle-k")
    flags = parser.parse_args()
    controllers = flags.controllers.split(",")
    heads = ["drafts", "batch", "req/s", "order", "engine", "best k by rate", "best single k", *controllers]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, profile, batch, rates in settings(flags.only):
        grid = Grid(profile, flags.trace, batch, rates, flags.seeds)
        at = " ".join(f"{rate:g}" for rate in rates)
        for rules in flags.engines.split(","):
            for row in rows(grid, rules, flags.policies.split(","), controllers):
                print(f"| {' | '.join([name, str(batch), at, *row])} |", flush=True)


if __name__ == "__main__":
    main()
