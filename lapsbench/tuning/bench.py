"""Replays a setting on a look at the traffic: the engine and its prices once, cells by seed.

Whatever is the same for all settings comes from today's: the rate, and which arrivals are left out as warm-up, so that
the same requests are compared.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lapsbench.core import CALIBRATION
from lapsbench.metrics.summary import summarize
from lapsbench.metrics.warmup import backlog_s, warmup_cut
from lapsbench.policies.binding import compiled
from lapsbench.sim import kernel
from lapsbench.sim.alone import solo
from lapsbench.sim.compiling import replay_one
from lapsbench.sim.cost import step_costs
from lapsbench.sim.prepare import at_capacity, calibration, workload
from lapsbench.sim.setup import set_up
from lapsbench.sim.today import today

if TYPE_CHECKING:
    from lapsbench.core import Calibration, Engine, Policy, Profile, Trace, Workload
    from lapsbench.metrics.slo import Slo
    from lapsbench.metrics.summary import CellSummary
    from lapsbench.policies.predictors import Predictor
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.today import Today
    from lapsbench.tuning.traffic import Look

KEPT = 32
"""Engines whose prices are kept; those of 256 places take a few MB."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """An engine with its prices, and what policies have learnt on it, once one asks."""

    costs: StepCosts
    learnt: list[Calibration | None]


class Bench:
    """What replays settings on looks; safe to use from several threads.

    Attributes:
        capacity_rps: of today's engine.
        fcfs_p99_s: what fcfs does there, as on an operator's dashboard; NaN before it is known.
    """

    def __init__(
        self,
        profile: Profile,
        predictor: Predictor,
        history: Trace | None,
        slo: Slo | None,
        engine: Engine,
    ) -> None:
        self.profile, self.predictor, self.history, self.slo, self.engine = profile, predictor, history, slo, engine
        self.capacity_rps, self.fcfs_p99_s = math.nan, math.nan
        self._engines: dict[Engine, _Ready] = {}
        self._works: dict[tuple[tuple[float, float], int], tuple[Workload, int]] = {}
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without what is made there again."""
        return vars(self) | {"_engines": {}, "_works": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"_lock": threading.RLock()})

    def measure_capacity(self, trace: Trace, seed: int) -> None:
        """Measure the capacity of today's engine under fcfs, in requests a second."""
        work = workload(trace, self.profile, self.engine, self.predictor, seed)
        self.capacity_rps = at_capacity(work, self.engine, self._ready(self.engine).costs)

    def measure_today(self, look: Look) -> Today:
        """Measure what fcfs does on today's engine, for policies that count in it."""
        work, _ = self._work(look, look.seeds[0])
        found = today(work, work.arrival_s, self.engine, self._ready(self.engine).costs, kernel.replay)
        self.fcfs_p99_s = found.p99_s
        return found

    def cell(self, engine: Engine, policy: Policy, spec: str, look: Look, seed: int) -> CellSummary:
        """Replay a setting on one seed of a look; `spec`: what its policy is called."""
        compiled(policy)
        ready, (base, cut) = self._ready(engine), self._work(look, seed)
        sample = self._learnt(engine, ready, policy)
        single = solo(base, engine, ready.costs)
        work, setup = set_up(base, engine, policy, single, sample, self.fcfs_p99_s)
        outcome = kernel.replay(work, engine, policy, ready.costs, setup)
        return summarize(
            work.arrival_s,
            work.output_tokens,
            outcome,
            policy=spec,
            load=None,
            seed=seed,
            warmup=cut,
            slo=self.slo,
        )

    def warm(self, engine: Engine, policy: Policy, look: Look) -> None:
        """Replay one request of a look, so that all is compiled."""
        ready = self._ready(engine)
        sample = self._learnt(engine, ready, policy)
        replay_one(look.trace, self.profile, engine, self.predictor, policy, ready.costs, sample)

    def _ready(self, engine: Engine) -> _Ready:
        with self._lock:
            if engine not in self._engines:
                for old in list(self._engines)[: len(self._engines) - KEPT]:
                    del self._engines[old]
                self._engines[engine] = _Ready(step_costs(self.profile, engine), [])
            return self._engines[engine]

    def _learnt(self, engine: Engine, ready: _Ready, policy: Policy) -> Calibration | None:
        """Return what a policy learns from, if it does."""
        if CALIBRATION not in policy.knows and policy.calibrate is None:
            return None
        with self._lock:
            if not ready.learnt:
                found = calibration(self.profile, engine, self.predictor, ready.costs, self.history)
                ready.learnt.append(found)
            return ready.learnt[0]

    def _work(self, look: Look, seed: int) -> tuple[Workload, int]:
        """Return a look's requests with the acceptance and predictions of a seed, and how many are warm-up."""
        key = look.window, seed
        with self._lock:
            if key not in self._works:
                work = workload(look.trace, self.profile, self._drafting(), self.predictor, seed)
                alone_s = solo(work, self.engine, self._ready(self.engine).costs).alone_s
                self._works[key] = work, warmup_cut(backlog_s(work.arrival_s, alone_s, self.capacity_rps))
            return self._works[key]

    def _drafting(self) -> Engine:
        """Return the engine with as many drafts as were recorded: a draw of acceptance is the same for any number."""
        bank = self.profile.bank
        return self.engine if bank is None else replace(self.engine, draft_tokens=bank.draft_tokens_max)
