"""Replays what was executed, on the profile and on one made as dear as probes in the cell say."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.acceptance.served import had
from lapsbench.replay import Replayer
from lapsbench.sim import kernel
from lapsbench.sim.cost import step_costs
from lapsbench.store.step_cells import StepCells
from lapsbench.validation.composition import Proof, drifting, log_of, proof

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lapsbench.acceptance.served import Had
    from lapsbench.core import Floats, Outcome, Profile, Workload
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup
    from lapsbench.sim.sweep import Cell, Server
    from lapsbench.validation.probing import Drift
    from lapsbench.validation.session import Serving

METRICS = ("jct", "ttft", "tpot")


@dataclass(frozen=True, slots=True)
class Times:
    """Of every request that finished, in seconds; and output tokens a second of the whole cell."""

    jct_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    throughput_tps: float


@dataclass(frozen=True, slots=True)
class Pair:
    """A cell: executed, simulated on the profile, and on one as dear at each moment as probes say: `factor` in all.

    `as_recorded`: the share of requests that accepted what they do in the simulation.
    """

    policy: str
    load: float | None
    seed: int
    factor: float
    executed: Times
    simulated: Times
    corrected: Times
    proof: Proof
    as_recorded: float

    def facts(self) -> dict[str, Any]:
        """Return what `validation.json` holds of it."""
        means = {
            side: {f"{name}_mean_s": float(getattr(times, f"{name}_s").mean()) for name in METRICS}
            | {"throughput_tps": times.throughput_tps}
            for side, times in (
                ("executed", self.executed),
                ("simulated", self.simulated),
                ("corrected", self.corrected),
            )
        }
        known = {"policy": self.policy, "load": self.load, "seed": self.seed, "factor": self.factor}
        return known | means | {"proof": asdict(self.proof), "as_recorded": self.as_recorded}


def times_of(work: Workload, outcome: Outcome) -> Times:
    """Return the times of who finished."""
    done = np.isfinite(outcome.finished_s)
    arrival, first, last = (each[done] for each in (work.arrival_s, outcome.first_token_s, outcome.finished_s))
    output = work.output_tokens[done]
    many = output > 1
    tpot = (last - first)[many] / (output[many] - 1)
    span_s = float(last.max() - work.arrival_s.min())
    return Times(last - arrival, first - arrival, tpot, float(output.sum() / span_s))


def as_dear(prices: Profile, over: float) -> Profile:
    """Return prices so many times as dear."""
    return replace(prices, costs=replace(prices.costs, time_s=prices.costs.time_s * over))


class Comparing(Replayer):
    """The replays of a session; each cell of them is held against the one that was executed.

    Args:
        executor: who served.
        drifts: how much dearer the machine was in each cell.
        prices: what a replay is priced by; loads, and what policies know, are as they were when it was served.
        dear: how dear the machine was while a repeat's walks were taken, by seed: prices are of that repeat's machine.
        out: run folder.
        first: where models accept themselves: what everybody accepted in a first serving, as the replays have it.
    """

    def __init__(
        self,
        executor: Serving,
        drifts: Mapping[str, Drift],
        prices: Profile,
        dear: Mapping[int, float],
        out: Path,
        first: Had | None,
    ) -> None:
        self.executor, self.drifts, self.first = executor, drifts, first
        self.prices = {seed: as_dear(prices, over) for seed, over in dear.items()}
        self.pairs: list[Pair] = []
        self.steps = StepCells(out.with_name("executed"))
        super().__init__(executor.scenario, out)

    def server(self) -> Server:
        """Return what replays cells."""
        return self._compare

    def _kept(self, cell: Cell) -> Outcome | None:  # noqa: ARG002 - a replay takes a moment, and its pair is wanted
        return None

    def _compare(
        self, cell: Cell, work: Workload, setup: Setup, costs: StepCosts, progress: Callable[[int], None]
    ) -> Outcome:
        key, engine = self.executor.key(cell), self.plan.engine
        prices = step_costs(self.prices[cell.seed], engine)
        served, drift = self.executor.outcomes[key.key], self.drifts[key.key]
        simulated = kernel.replay(work, engine, cell.policy, prices, replace(setup, system=setup.system.copy()))
        fresh = replace(setup, system=setup.system.copy())
        corrected = drifting(work, engine, cell.policy, costs, fresh, prices, drift)
        table, alike = self.steps.load(key), 1.0
        if self.first is not None:  # steps are composed by what was accepted in this very cell
            here = had(table, len(work))
            work, alike = here.given_to(work), here.alike(self.first)
        same = proof(log_of(table), work, engine, cell.policy, costs, setup, prices)
        sides = {
            name: times_of(work, outcome)
            for name, outcome in (("executed", served), ("simulated", simulated), ("corrected", corrected))
        }
        self.pairs.append(Pair(cell.name, cell.load, cell.seed, drift.whole, **sides, proof=same, as_recorded=alike))
        progress(len(work))
        return simulated
