"""Settings replayed on looks, cell by cell: side by side in threads here, or wherever machines have room."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from joblib import Parallel, delayed

from lapsbench.policies.registry import find

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from lapsbench.core import Engine, Policy
    from lapsbench.machines.machines import Machines
    from lapsbench.metrics.summary import CellSummary
    from lapsbench.tuning.bench import Bench
    from lapsbench.tuning.budget import Budget
    from lapsbench.tuning.space import Setting, Space
    from lapsbench.tuning.traffic import Look, Traffic

Cells = tuple["CellSummary", ...]


@dataclass(frozen=True, slots=True)
class Shot:
    """One seed of one look at one setting.

    Attributes:
        number: of the setting, among those that are asked for together.
        spec: the policy as typed.
        look: its place among the looks, held-out traffic the last.
    """

    number: int
    engine: Engine
    policy: Policy
    spec: str
    look: int
    seed: int


class Shots:
    """The errand; a task is a `Shot`."""

    def __init__(self, bench: Bench, traffic: Traffic) -> None:
        self.bench, self.looks = bench, (*traffic.looks, traffic.held_out)

    @property
    def large(self) -> list[object]:
        """The profile, what policies learn from, and every look's arrivals."""
        history = [] if self.bench.history is None else [self.bench.history]
        return [self.bench.profile, *history, *(look.trace for look in self.looks)]

    @property
    def rules(self) -> str:
        """Today's engine's, and every setting's."""
        return self.bench.engine.rules

    def warm(self, task: Shot) -> None:
        """Replay one request."""
        self.bench.warm(task.engine, task.policy, self.looks[task.look])

    def do(self, task: Shot) -> CellSummary:
        """Replay it, and boil it down."""
        return self.bench.cell(task.engine, task.policy, task.spec, self.looks[task.look], task.seed)

    def told(self, task: Shot) -> str:
        """Return it in words."""
        return f"{task.spec}, max_batch {task.engine.max_batch}, {self.looks[task.look].name}, seed {task.seed}"


class Replays:
    """Replays settings on looks, each once: `jobs` cells side by side, or as many as machines have room for."""

    def __init__(
        self, space: Space, traffic: Traffic, bench: Bench, budget: Budget, jobs: int, machines: Machines | None
    ) -> None:
        self.space, self.budget, self.jobs, self.machines = space, budget, jobs, machines
        self.errand = Shots(bench, traffic)
        self._done: dict[tuple[str, str], Cells] = {}

    @property
    def at_a_time(self) -> int:
        """How many cells are replayed side by side now."""
        return self.jobs if self.machines is None else self.machines.slots()

    def each(self, wanted: Sequence[tuple[Setting, Look]]) -> Generator[tuple[int, Cells]]:
        """Yield every setting's number among them as it is finished, with a cell for every seed of its look."""
        began, shots = time.monotonic(), list[Shot]()
        for number, (setting, look) in enumerate(wanted):
            if done := self._done.get((setting.key, look.name)):
                yield number, done
            else:
                shots += self._shots(number, setting, look)
        got: list[dict[int, CellSummary]] = [{} for _ in wanted]
        for shot, cell in self._run(shots):
            (setting, look), there = wanted[shot.number], got[shot.number]
            there[shot.seed] = cell
            if len(there) == len(look.seeds):
                cells = self._done[setting.key, look.name] = tuple(there[seed] for seed in look.seeds)
                yield shot.number, cells
        requests = sum(len(self.errand.looks[shot.look].trace) for shot in shots)
        self.budget.took(requests, time.monotonic() - began if shots else 0.0)

    def all(self, wanted: Sequence[tuple[Setting, Look]]) -> list[Cells]:
        """Return the cells of every setting."""
        found = dict(self.each(wanted))
        return [found[number] for number in range(len(wanted))]

    def _shots(self, number: int, setting: Setting, look: Look) -> Iterable[Shot]:
        place = next(place for place, each in enumerate(self.errand.looks) if each is look)
        engine, policy = self.space.engine(setting), find(setting.policy)
        return (Shot(number, engine, policy, setting.policy, place, seed) for seed in look.seeds)

    def _run(self, shots: Sequence[Shot]) -> Generator[tuple[Shot, CellSummary]]:
        if self.machines is not None:
            yield from self.machines.results(self.errand, shots)
        elif self.jobs == 1:
            yield from ((shot, self.errand.do(shot)) for shot in shots)
        else:
            tasks = (delayed(self._shot)(shot) for shot in shots)
            yield from Parallel(n_jobs=self.jobs, prefer="threads", return_as="generator_unordered")(tasks)

    def _shot(self, shot: Shot) -> tuple[Shot, CellSummary]:
        return shot, self.errand.do(shot)
