"""Run every cell (load, seed, policy) of a comparison, side by side if asked, and hand the outcomes out in order.

Knows nothing of files or screens: finished cells come in through `kept`, outcomes go out through the generator.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from lapsbench.core import CALIBRATION, LARGE
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.policies.binding import compiled
from lapsbench.policies.registry import spec_of
from lapsbench.policies.uses import wants_today
from lapsbench.sim import kernel
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import StepCosts, step_costs
from lapsbench.sim.prepare import at_capacity, calibration, workload
from lapsbench.sim.setup import Solo, set_up, table_of
from lapsbench.sim.today import Today, today
from lapsbench.traces import scale_to_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from lapsbench.core import Calibration, Engine, Floats, Outcome, Policy, Profile, Trace, Workload
    from lapsbench.policies.predictors import Predictor
    from lapsbench.sim.setup import Setup


HELD_REQUESTS = 1_000_000
"""Of all workloads that are held ready together, where more than two are."""


class Simulator(Protocol):
    """What replays one policy: `sim.kernel.replay`, or whatever else takes and returns the same."""

    def __call__(
        self,
        work: Workload,
        engine: Engine,
        policy: Policy,
        costs: StepCosts,
        setup: Setup,
        progress: Callable[[int], None] | None = None,
    ) -> Outcome:
        """Return what became of every request; `progress` hears how many have left."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One policy at one load (None: the trace's own clock, or a rate) with one seed."""

    policy: Policy
    load: float | None
    seed: int

    @property
    def name(self) -> str:
        """The policy as typed."""
        return spec_of(self.policy)


class Server(Protocol):
    """What serves a cell for real, in place of replaying it."""

    def __call__(
        self, cell: Cell, work: Workload, setup: Setup, costs: StepCosts, progress: Callable[[int], None]
    ) -> Outcome:
        """Return what became of every request; `progress` hears how many have left."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole comparison."""

    trace: Trace
    profile: Profile
    engine: Engine
    predictor: Predictor
    policies: tuple[Policy, ...]
    loads: tuple[float | None, ...]
    rate_rps: float | None
    seeds: tuple[int, ...]
    history: Trace | None = None

    @property
    def cells(self) -> list[Cell]:
        """Every cell, those of a seed together: they share its workload, and what drifts is alike for all loads."""
        return [Cell(policy, load, seed) for seed in self.seeds for load in self.loads for policy in self.policies]


@dataclass(frozen=True, slots=True)
class Result:
    """A finished cell: its outcome, and the workload its policy saw."""

    cell: Cell
    work: Workload
    outcome: Outcome
    resumed: bool = False


class Sweep:
    """A plan made ready: prices collapsed, capacity found, calibration done, policies compiled.

    Where cells are served for real, capacity and what fcfs does today are those of the simulator all the same.

    Attributes:
        capacity_rps: requests per second.
        calibration: None where no policy learns.
        today: what fcfs does, by load; empty where no policy asks.
    """

    def __init__(
        self,
        plan: Plan,
        say: Callable[[str], None] = lambda _: None,
        replay: Simulator = kernel.replay,
        serve: Server | None = None,
    ) -> None:
        self.plan, self.replay, self.serve = plan, replay, serve
        self.costs: StepCosts = step_costs(plan.profile, plan.engine)
        self._check()
        for policy in plan.policies:
            compiled(policy)
        self.works: dict[int, Workload] = {}
        self.solos: dict[int, Solo] = {}
        self._most = 1 if len(plan.trace) > LARGE else max(2, HELD_REQUESTS // max(len(plan.trace), 1))
        first, single = self.prepared(plan.seeds[0])
        say("measuring capacity")
        self.capacity_rps = at_capacity(first, plan.engine, self.costs, replay, single)
        self.calibration: Calibration | None = None
        if any(CALIBRATION in policy.knows or policy.calibrate for policy in plan.policies):
            say("calibrating")
            self.calibration = calibration(plan.profile, plan.engine, plan.predictor, self.costs, plan.history)
        for policy in plan.policies:
            if policy.calibrate is not None and self.calibration is not None:
                table_of(policy, self.calibration)
        self.arrivals = {load: self._arrival_s(plan.trace, load) for load in plan.loads}
        self.today: dict[float | None, Today] = {}
        if any(wants_today(policy) for policy in plan.policies):
            say("measuring today's fcfs")
            self.today = {load: self._today(first, single, load) for load in plan.loads}
        self._lock = threading.Lock()

    def run(
        self,
        jobs: int = 1,
        kept: Callable[[Cell], Outcome | None] = lambda _: None,
        progress: Callable[[int], None] | None = None,
    ) -> Generator[Result]:
        """Yield a result per cell, in the order of `Plan.cells`.

        Args:
            jobs: cells at a time. The kernel releases the GIL, so these are threads sharing one compiled kernel and one
                workload.
            kept: an outcome already on disk, which is then not run again.
            progress: called with the number of requests that have left since the last call.
        """
        tick = partial(self._tick, progress) if progress else None
        if jobs == 1:  # joblib holds a result until it has the next
            yield from (self._run(cell, kept, tick) for cell in self.plan.cells)
            return
        from joblib import Parallel, delayed  # noqa: PLC0415 - a tenth of the imports

        tasks = (delayed(self._run)(cell, kept, tick) for cell in self.plan.cells)
        yield from Parallel(n_jobs=jobs, prefer="threads", return_as="generator", pre_dispatch="2*n_jobs")(tasks)

    def given(self, cell: Cell) -> tuple[Workload, Setup]:
        """Return what a cell replays, as its policy may know it."""
        base, single = self.prepared(cell.seed)
        work = replace(base, arrival_s=self.arrivals[cell.load])
        today_s = self.today[cell.load].p99_s if cell.load in self.today else math.nan
        return set_up(work, self.plan.engine, cell.policy, single, self.calibration, today_s)

    def result(self, cell: Cell) -> Result:
        """Replay one cell, here and now."""
        work, setup = self.given(cell)
        return Result(cell, work, self.replay(work, self.plan.engine, cell.policy, self.costs, setup))

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process makes the same sweep of."""
        return vars(self) | {"works": {}, "solos": {}, "serve": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def _run(self, cell: Cell, kept: Callable[[Cell], Outcome | None], tick: Callable[[int], None] | None) -> Result:
        plan, (work, setup) = self.plan, self.given(cell)
        outcome = kept(cell)
        if outcome is not None:
            if tick:
                tick(len(work))
            return Result(cell, work, outcome, resumed=True)
        seen = 0

        def left(gone: int) -> None:
            nonlocal seen
            if tick:
                tick(gone - seen)
            seen = gone

        if self.serve is not None:
            return Result(cell, work, self.serve(cell, work, setup, self.costs, left))
        return Result(cell, work, self.replay(work, plan.engine, cell.policy, self.costs, setup, left))

    def _tick(self, progress: Callable[[int], None], left: int) -> None:
        with self._lock:
            progress(left)

    def prepared(self, seed: int) -> tuple[Workload, Solo]:
        """Make a seed's workload once; keep two, as cells come seed by seed; more of small traces, one of large."""
        lock = getattr(self, "_lock", None) or threading.Lock()
        with lock:
            if seed not in self.works:
                plan = self.plan
                work = workload(plan.trace, plan.profile, plan.engine, plan.predictor, seed)
                for old in list(self.works)[: max(0, len(self.works) + 1 - self._most)]:
                    del self.works[old], self.solos[old]
                self.works[seed], self.solos[seed] = work, solo(work, plan.engine, self.costs)
            return self.works[seed], self.solos[seed]

    def _today(self, work: Workload, single: Solo | None, load: float | None) -> Today:
        """Replay fcfs on the first seed; on the trace that policies learn from, where there is one."""
        plan, arrival_s = self.plan, self.arrivals[load]
        if plan.history is not None:
            work = workload(plan.history, plan.profile, plan.engine, plan.predictor, plan.seeds[0])
            arrival_s, single = self._arrival_s(plan.history, load), None
        return today(work, arrival_s, plan.engine, self.costs, self.replay, single)

    def _arrival_s(self, trace: Trace, load: float | None) -> Floats:
        rate = self.plan.rate_rps
        if load is not None:
            rate = load * self.capacity_rps
        return trace.arrival_s if rate is None else scale_to_rate(trace, rate).arrival_s

    def _check(self) -> None:
        names = [cell.name for cell in self.plan.cells if cell.load == self.plan.loads[0]][: len(self.plan.policies)]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise UsageError(f"{', '.join(sorted(twice))} is given twice", where="--policy", hint="each policy once")
        for policy in self.plan.policies:
            if policy.client_weights and self.plan.trace.client_id is None:
                raise LapsbenchError(
                    f"{policy.name} shares the engine between clients, and the trace has no column client_id",
                    where=f"trace {self.plan.trace.name}",
                    hint="adding the column, or leaving the policy out",
                )
