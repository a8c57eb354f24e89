"""One validation: an engine is measured, serves every cell between two probes, and is replayed.

For each number of drafts a folder: what was measured, the profile made of it, probes, and both runs, which `report` and
`compare` read. What is done is on disk; the same command goes on from there.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lapsbench import files
from lapsbench.errors import LapsbenchError
from lapsbench.execution.executor import Executor
from lapsbench.planning import plan as plan_of
from lapsbench.validation import figures, pricing
from lapsbench.validation.asked import Measure
from lapsbench.validation.bench import Bench
from lapsbench.validation.comparing import Comparing
from lapsbench.validation.grid import Grid, grid_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lapsbench.core import Outcome, Workload
    from lapsbench.execution.wanted import Prepared, Wanted
    from lapsbench.scenario import Scenario
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup
    from lapsbench.sim.sweep import Cell
    from lapsbench.validation.bench import Line
    from lapsbench.validation.comparing import Pair

PASSES = 2
"""Walks over the grid before anything is served."""
DRIFTED = 0.03
"""Probes this far from the profile are said."""


@dataclass(frozen=True, slots=True)
class Validation:
    """What one number of drafts came to."""

    drafts: int
    baseline: str
    pairs: tuple[Pair, ...]

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return its tables."""
        pairs = self.pairs
        return {
            "figures": figures.rows(self.drafts, pairs),
            "prices": figures.prices(self.drafts, pairs),
            "ratios": figures.ratios(self.drafts, pairs, self.baseline),
            "ranking": [{"draft_tokens": self.drafts, **row} for row in figures.ranking(pairs)],
            "cells": [{"draft_tokens": self.drafts, **pair.facts()} for pair in pairs],
        }

    def drift(self) -> str:
        """Say how far the machine drifted; "" if it did not."""
        factors = [pair.factor for pair in self.pairs]
        if max(abs(each - 1) for each in factors) < DRIFTED:
            return ""
        low, high = min(factors), max(factors)
        return (
            f"the machine drifted: around the cells of k = {self.drafts} steps took {low:.3f} to {high:.3f} times "
            "what the profile says; corrected by one factor a cell, from probes alone"
        )


class Serving(Executor):
    """An executor that takes probes before and after every cell."""

    def __init__(self, scenario: Scenario, wanted: Wanted, out: Path, probe: Callable[[], list[Line]]) -> None:
        self.probe, self.probes = probe, out / "probes"
        self.outcomes: dict[str, Outcome] = {}
        super().__init__(scenario, wanted, out / "executed")

    def _serve(
        self, cell: Cell, work: Workload, setup: Setup, costs: StepCosts, progress: Callable[[int], None]
    ) -> Outcome:
        before = self.probe()
        outcome = super()._serve(cell, work, setup, costs, progress)
        key = self.key(cell).key
        _keep(self.probes / f"{key}.json", {"before": before, "after": self.probe()})
        self.outcomes[key] = outcome
        return outcome

    def _kept(self, cell: Cell) -> Outcome | None:
        kept = super()._kept(cell) if (self.probes / f"{self.key(cell).key}.json").exists() else None
        if kept is not None:
            self.outcomes[self.key(cell).key] = kept
        return kept

    def factors(self, measured: list[Line]) -> dict[str, float]:
        """Return by how much the machine was dearer around each cell."""
        found = {}
        for cell in self.cells:
            key = self.key(cell).key
            probes = json.loads((self.probes / f"{key}.json").read_bytes())
            found[key] = pricing.factor([*probes["before"], *probes["after"]], measured)
        return found


class Session:
    """Validates an engine at one number of drafts.

    Args:
        scenario: what is served; its profile is the one whose recordings are imposed.
        wanted: on what.
        out: the folder.
        say: told what is being done.
    """

    def __init__(self, scenario: Scenario, wanted: Wanted, out: Path, say: Callable[[str], None]) -> None:
        self.bank, self.wanted, self.out, self.say = scenario.profile, wanted, out, say
        self.drafts = int(scenario.draft_tokens or 0)
        self.scenario = scenario.model_copy(update={"profile": str(out / "profile")})
        self.bench: Bench | None = None

    def run(self, prepared: Prepared, asked: Scenario, progress: Callable[[int], None]) -> Validation:
        """Measure, serve and replay what is not on disk yet.

        Args:
            prepared: the models.
            asked: the scenario as this engine has it.
            progress: hears of requests that have left.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        plan, _ = plan_of(asked)
        grid = grid_of(plan.trace, plan.engine, preempts=any(policy.preemptive for policy in plan.policies))
        measure = Measure(self.wanted, prepared, plan.engine, grid.longest)
        with ExitStack() as held:

            def bench() -> Bench:
                if self.bench is None:
                    self.say("starting the engine that is measured")
                    self.bench = held.enter_context(Bench(measure))
                return self.bench

            measured = self._measured(bench, grid, measure)
            executor = held.enter_context(
                closing(Serving(self.scenario, self.wanted, self.out, lambda: list(bench().measure(grid.probes()))))
            )
            self.say(f"serving {len(executor.plan.cells)} cells at k = {self.drafts}")
            executor.run(progress=progress)
            self.say("replaying")
            factors = executor.factors(measured)
            with closing(Comparing(executor, factors, self.out / "simulated")) as comparing:
                comparing.run()
                return Validation(self.drafts, comparing.baseline, tuple(comparing.pairs))

    def _measured(self, bench: Callable[[], Bench], grid: Grid, measure: Measure) -> list[Line]:
        """Return what the profile is made of; measure it first if it is not on disk."""
        file = self.out / "measured.json"
        identity = {
            "grid": asdict(grid),
            "engine": asdict(measure.engine),
            "wanted": asdict(measure.wanted),
            "version": measure.prepared.version,
            "bank": self.bank,
        }
        identity = json.loads(json.dumps(identity))
        known: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {"identity": identity, "passes": []}
        if known["identity"] != identity:
            what = "holds what was measured for another command"
            raise LapsbenchError(what, where=str(self.out), hint="another --out, or removing the folder")
        while len(known["passes"]) < PASSES:
            self.say(f"measuring steps, pass {len(known['passes']) + 1} of {PASSES}")
            known["passes"].append(bench().measure(grid.sets()))
            _keep(file, known)
        lines: list[Line] = [line for each in known["passes"] for line in each]
        if not (self.out / "profile" / "cost.parquet").exists():
            about = {
                "engine": f"{self.wanted.engine} {measure.prepared.version}",
                "device": measure.prepared.device,
                "models": {"target": self.wanted.target, "draft": self.wanted.draft},
            }
            (self.out / "profile").mkdir(exist_ok=True)
            pricing.write(self.out / "profile", lines, self.bank, about)
        return lines


def _keep(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as part:
        part.write_text(json.dumps(content), encoding="utf-8")
