"""One validation: an engine is measured, serves every cell, probed all the while, and is replayed.

For each number of drafts a folder: what was measured, the profile made of it, probes, and both runs, which `report` and
`compare` read. What is done is on disk; the same command goes on from there.
"""

from __future__ import annotations

import json
from collections import deque
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from statistics import median
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.acceptance.served import names
from lapsbench.execution.executor import Executor
from lapsbench.execution.wanted import is_lookup
from lapsbench.planning import plan as plan_of
from lapsbench.store.profile import open_profile
from lapsbench.traces.save import write_trace
from lapsbench.validation import figures, pricing
from lapsbench.validation.asked import Measure
from lapsbench.validation.bench import Bench
from lapsbench.validation.comparing import Comparing
from lapsbench.validation.first import First
from lapsbench.validation.grid import Grid, dealt, grid_of, longest_of
from lapsbench.validation.passes import Passes, keep
from lapsbench.validation.probing import Drift, Probes, drift, mean_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lapsbench.acceptance.served import Had
    from lapsbench.core import Bank, Bytes, Floats, Outcome, Profile, Trace, Workload
    from lapsbench.execution.wanted import Prepared, Serve, Wanted
    from lapsbench.scenario import Scenario
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup
    from lapsbench.sim.sweep import Cell
    from lapsbench.validation.bench import Line, Walk
    from lapsbench.validation.comparing import Pair
    from lapsbench.vllm.wanted import Step

FIRST = "first"
"""The walk over the grid that loads, and what policies know, are made from."""
SCHEMA = "lapsbench.walks/7"
SAMPLE = 1021
"""Of recordings, drawn on while steps are timed."""
TRIES = 2
"""At most, for a cell."""
PATIENCE, LOOKS, TURNS = 5.0, 30, 4
"""So many times as long as a walk a machine that has changed is waited for, looked at as often, by turns of probes."""
LATELY = 12
"""So many walks and cells back goes what probes are held against while cells are served."""
DRIFTED = 0.03
"""Probes this far from those of the walks are said."""


def repeat(seed: int) -> str:
    """Return what the walks of a repeat are kept under."""
    return f"seed {seed}"


@dataclass(frozen=True, slots=True)
class Validation:
    """What one number of drafts came to."""

    drafts: int
    baseline: str
    pairs: tuple[Pair, ...]
    again: int

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
        if max(abs(each - 1) for each in factors) < DRIFTED and not self.again:
            return ""
        low, high = min(factors), max(factors)
        again = f"; {self.again} times a cell was served again, the machine being disturbed" if self.again else ""
        return (
            f"The machine drifted: in the cells of k = {self.drafts} probes took {low:.3f} to {high:.3f} times "
            f"what they took while prices were measured; corrected as time goes by, from probes alone{again}."
        )


class Serving(Executor):
    """An executor whose cells one process serves, the one that measures.

    Args:
        session: the scenario, on what, and where to.
        bench: the process.
        walk: takes the walk, or the piece of one, that belongs before a cell.
        patience_s: so long a machine that has changed is waited for.
    """

    def __init__(
        self, session: Session, bench: Callable[[], Bench], walk: Callable[[Cell], Walk], patience_s: float
    ) -> None:
        self.bench, self.walk, self.patience_s, self.probes = bench, walk, patience_s, session.out / "probes"
        self.outcomes: dict[str, Outcome] = {}
        self.probed, self.lately_s = Probes([], [], 0), deque[float](maxlen=LATELY)
        super().__init__(session.scenario, session.wanted, session.out / "executed")

    def _serve(
        self, cell: Cell, work: Workload, setup: Setup, costs: StepCosts, progress: Callable[[int], None]
    ) -> Outcome:
        """Serve a cell, and again where the machine was disturbed meanwhile: its probes say so, never its steps."""
        key, tries = self.key(cell).key, 0
        self.lately_s.append(mean_s(self.walk(cell).probes.probes_s))
        while not tries or (tries < TRIES and self.probed.disturbed(median(self.lately_s))):
            self._wait()
            outcome, tries = super()._serve(cell, work, setup, costs, progress), tries + 1
            self.lately_s.append(mean_s(self.probed.probes_s))
        keep(self.probes / f"{key}.json", {"tries": tries, **asdict(self.probed)})
        self.outcomes[key] = outcome
        return outcome

    def _wait(self) -> None:
        """Wait until the machine is no dearer than it was lately, for a while: neighbours come and go."""
        for _ in range(LOOKS):
            if not self.bench().probe(TURNS).dearer(median(self.lately_s)):
                return
            sleep(self.patience_s / LOOKS)

    def ask(self, asked: Serve, watch: Callable[[], None], done: Callable[[], str]) -> None:  # noqa: ARG002 - it says
        """Have the engine that is measured serve a cell."""
        self.probed = self.bench().serve(asked, watch)

    def _kept(self, cell: Cell) -> Outcome | None:
        kept = super()._kept(cell) if (self.probes / f"{self.key(cell).key}.json").exists() else None
        if kept is not None:
            self.outcomes[self.key(cell).key] = kept
        return kept

    def _served(self, cell: Cell) -> tuple[int, Probes]:
        """Return how many times a cell was served, and its probes."""
        kept: dict[str, Any] = json.loads((self.probes / f"{self.key(cell).key}.json").read_bytes())
        return kept.pop("tries"), Probes(**kept)

    def drifts(self, usual_s: Floats, dear: Mapping[int, float]) -> dict[str, Drift]:
        """Return by how much the machine was dearer in each cell than in the walks of its repeat, by their seed."""
        return {self.key(cell).key: drift(self._served(cell)[1], usual_s * dear[cell.seed]) for cell in self.cells}

    def again(self) -> int:
        """Return how many times a cell was served once more."""
        return sum(self._served(cell)[0] - 1 for cell in self.cells)


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
        self.own = self.drafts > 0 and wanted.acceptance == "own"
        self.varies = self.own and wanted.engine == "vllm" and is_lookup(wanted.draft)
        self.scenario = scenario.model_copy(update={"profile": str(out / "profile")})
        self.first: Had | None = None
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
        recordings = self._recordings(asked, plan.trace)
        preempts = any(policy.preemptive for policy in plan.policies)
        grid = grid_of(plan.trace, plan.engine, preempts=preempts, varies=self.varies)
        longest = max(grid.longest, longest_of(plan.trace, plan.engine))
        measure = Measure(self.wanted, prepared, plan.engine, longest, self._accept_runs(recordings))
        sets = grid.sets()
        with ExitStack() as held:

            def bench() -> Bench:
                if self.bench is None:
                    self.say("starting the engine that is measured, and warming it up")
                    self.bench = held.enter_context(Bench(measure))
                    self.bench.measure(sets)  # what an engine makes once, for a size of step, is made now
                return self.bench

            def walk(when: str, piece: Sequence[Sequence[Step]] = sets) -> Walk:
                taken = bench().measure(piece)
                passes.keep(when, taken)
                return taken

            def before(cell: Cell) -> Walk:
                turns = [each for each in executor.plan.cells if each.seed == cell.seed]
                return walk(repeat(cell.seed), dealt(sets, turns.index(cell), len(turns)))

            passes = Passes(self.out / "measured.json", self._identity(grid, measure))
            if not passes:
                self.say("measuring steps")
                walk(FIRST)
            if not (self.out / "profile/cost.parquet").exists():
                self._write("profile", passes.lines(FIRST), recordings, measure)
            executor = held.enter_context(closing(Serving(self, bench, before, PATIENCE * passes.first_s())))
            self.say(f"serving {len(executor.plan.cells)} cells at k = {self.drafts}")
            executor.run(progress=progress)
            self.say("replaying")
            prices = self._write("prices", passes.lines(), recordings, measure)
            dear = {seed: passes.dear(repeat(seed)) for seed in executor.plan.seeds}
            drifts = executor.drifts(passes.usual_s(), dear)
            with closing(Comparing(executor, drifts, prices, dear, self.out / "simulated", self.first)) as comparing:
                comparing.run()
                return Validation(self.drafts, comparing.baseline, tuple(comparing.pairs), executor.again())

    def _recordings(self, asked: Scenario, trace: Trace) -> Bank | None:
        """Return those of the named profile; where models accept themselves, those of a first serving of the trace."""
        if not self.own:
            return open_profile(self.bank).bank
        self.say("serving everybody once, for what they accept")
        alone = {"policies": ("fcfs",), "load": asked.load and asked.load[:1], "repeats": 1}
        with closing(First(asked.model_copy(update=alone), self.wanted, self.out / "recorded")) as first:
            self.first = first.had()
        file = self.out / "trace.csv"
        write_trace(replace(trace, prompt_id=names(len(trace))), file)
        self.scenario = self.scenario.model_copy(update={"trace": str(file), "limit": None})
        return self.first.bank(trace, self.drafts, varies=self.varies)

    def _accept_runs(self, recordings: Bank | None) -> Bytes:
        """Return a sample of what rounds accept."""
        runs = np.zeros(1, np.uint8) if recordings is None else recordings.accept_runs
        if self.first is not None and len(self.first.starts):
            runs = runs[self.first.starts]
        return runs[np.linspace(0, len(runs) - 1, SAMPLE).astype(np.int64)]

    def _identity(self, grid: Grid, measure: Measure) -> dict[str, Any]:
        """Return what measured steps depend on."""
        return {
            "schema": SCHEMA,
            "grid": asdict(grid),
            "engine": asdict(measure.engine),
            "wanted": asdict(measure.wanted),
            "version": measure.prepared.version,
            "bank": self.bank,
        }

    def _write(self, name: str, lines: list[Line], recordings: Bank | None, measure: Measure) -> Profile:
        """Make a profile of steps; return it."""
        folder = self.out / name
        folder.mkdir(exist_ok=True)
        about = {
            "engine": f"{self.wanted.engine} {measure.prepared.version}",
            "device": measure.prepared.device,
            "models": {"target": self.wanted.target, "draft": self.wanted.draft},
        }
        pricing.write(folder, lines, recordings, "the requests served" if self.own else self.bank, about)
        return open_profile(str(folder))
