"""Whether the simulator composes the steps that an engine took, told only how long each took; and what it prices them.

The plain-Python rules run on the clock of a step log. Acceptance is the workload's, so it has to have been imposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.sim.reference import Ideal, Vllm
from lapsbench.sim.reference.prices import Prices

if TYPE_CHECKING:
    import pyarrow as pa

    from lapsbench.core import Engine, Floats, Outcome, Policy, Workload
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.reference import ideal, vllm
    from lapsbench.sim.setup import Setup
    from lapsbench.validation.probing import Drift

KINDS = ("decode", "mixed", "prefill")
Sizes = dict[int, tuple[int, int, int]]
"""Of every request in a step: tokens, those cached before, drafts."""


@dataclass(frozen=True, slots=True)
class Log:
    """The steps of a cell: when each was composed and ended, and for whom it did what."""

    admit_s: Floats
    start_s: Floats
    end_s: Floats
    sizes: list[Sizes]


def log_of(table: pa.Table) -> Log:
    """Read a cell's rows of `steps.parquet`."""
    columns = {name: table[name].to_numpy() for name in table.column_names if name not in ("policy", "load", "seed")}
    numbers, first = np.unique(columns["step"], return_index=True)
    sizes: list[Sizes] = [{} for _ in numbers]
    place = {int(number): i for i, number in enumerate(numbers)}
    rows = zip(*(columns[name].tolist() for name in ("step", "request", "tokens", "cached", "drafts")), strict=True)
    for step, request, tokens, cached, drafts in rows:
        if tokens:
            sizes[place[step]][request] = (tokens, cached, drafts)
    admit_s, start_s, end_s = (columns[name][first] for name in ("admit_s", "start_s", "end_s"))
    return Log(admit_s, start_s, end_s, sizes)


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of it.

    Attributes:
        steps: that the engine took.
        same: of these, those that the simulator composed alike.
        taken_s, priced_s: of the same steps, in all, by kind.
    """

    steps: int
    same: int
    taken_s: dict[str, float]
    priced_s: dict[str, float]


class Told(Prices):
    """Steps take what they took; what they would have been priced is noted beside it.

    A policy weighs what preempting costs by `weighed`, as when it was served.
    """

    def __init__(self, costs: StepCosts, engine: Engine, log: Log, weighed: Prices) -> None:
        super().__init__(costs, engine)
        self.log, self.weighed = log, weighed
        self.kinds: list[str] = []
        self.priced_s: list[float] = []

    def step(self, batch: int, contexts: list[int], chunks: Any, swap_s: float = 0.0, **drafts: Any) -> float:
        """Return what the step took."""
        chunks, number = list(chunks), len(self.kinds)
        price_s = super().step(batch, contexts, chunks, swap_s, **drafts)
        self.kinds.append("mixed" if contexts and chunks else "decode" if contexts else "prefill")
        self.priced_s.append(price_s)
        if number >= len(self.log.end_s):
            return price_s
        return float(self.log.end_s[number] - self.log.start_s[number])

    def resume(self, engine: Engine, done: int) -> float:
        """Return what taking out a job costs when it resumes."""
        return self.weighed.resume(engine, done)


class Drifting(Prices):
    """Steps take as much longer as the machine was dearer when they begin; else as `Told`."""

    def __init__(self, costs: StepCosts, engine: Engine, drift: Drift, twin: Any) -> None:
        super().__init__(costs, engine)
        self.drift, self.twin, self.weighed = drift, twin, twin.prices

    def step(self, *sizes: Any, **drafts: Any) -> float:
        """Return what the step takes at that time."""
        return super().step(*sizes, **drafts) * self.drift.at(self.twin.now_s)

    def resume(self, engine: Engine, done: int) -> float:
        """Return what taking out a job costs when it resumes."""
        return self.weighed.resume(engine, done)  # type: ignore[no-any-return]


class _Fed:
    """What both rule sets do alike, mixed into either."""

    prices: Any
    step: int
    now_s: float
    live: list[Any]

    def feed(self, log: Log, costs: StepCosts, engine: Engine) -> None:
        """Go by the clock of a log."""
        self.log_fed, self.seen = log, list[Sizes]()
        self.between_s = np.zeros(len(log.end_s))
        self.prices = Told(costs, engine, log, self.prices)

    def arrivals(self) -> bool:
        """Let in who had arrived when the step was composed."""
        number, log = self.step, self.log_fed
        if number < len(log.admit_s):
            if number and self.live:  # nobody slept: what lies between two steps is part of the first
                self.between_s[number - 1] = log.admit_s[number] - log.end_s[number - 1]
            self.now_s = float(log.admit_s[number])
        return bool(super().arrivals())  # type: ignore[misc]


class _Vllm(_Fed, Vllm):
    """vLLM's rules."""

    def run_step(self, step: vllm.Step) -> None:
        """Note who is in it."""
        self.seen.append({part.job.request: (part.tokens, part.cached, part.drafts) for part in step.parts})
        super().run_step(step)


class _Ideal(_Fed, Ideal):
    """Ideal's rules."""

    def advance(self, step: ideal.Step, dt: float) -> None:
        """Note who is in it."""
        rounds = zip(step.decoding, step.drafts, strict=True)
        sizes = {job.request: (1 + drafts, job.context_tokens - 1, drafts) for job, drafts in rounds}
        self.seen.append(sizes | {job.request: (tokens, job.cached_tokens, 0) for job, tokens in step.chunks})
        super().advance(step, dt)


def drifting(
    work: Workload,
    engine: Engine,
    policy: Policy,
    costs: StepCosts,
    setup: Setup,
    prices: StepCosts,
    drift: Drift,
) -> Outcome:
    """Replay on `prices` as they drift, by the costs that policies weighed when it was served."""
    twin = (Vllm if engine.rules == "vllm" else Ideal)(work, engine, policy, costs, setup)
    twin.prices = Drifting(prices, engine, drift, twin)
    return twin.run()


def proof(
    log: Log, work: Workload, engine: Engine, policy: Policy, costs: StepCosts, setup: Setup, prices: StepCosts
) -> Proof:
    """Compose every step of a log once more, by the costs that policies weighed when it was served, and price it."""
    twin = (_Vllm if engine.rules == "vllm" else _Ideal)(work, engine, policy, costs, setup)
    twin.feed(log, prices, engine)
    twin.run()
    same = [i for i, (ours, theirs) in enumerate(zip(twin.seen, log.sizes, strict=False)) if ours == theirs]
    taken_s, priced_s = dict.fromkeys(KINDS, 0.0), dict.fromkeys(KINDS, 0.0)
    for i in same:
        taken_s[twin.prices.kinds[i]] += float(log.end_s[i] - log.admit_s[i] + twin.between_s[i])
        priced_s[twin.prices.kinds[i]] += twin.prices.priced_s[i]
    missing = abs(len(twin.seen) - len(log.sizes))
    return Proof(len(log.sizes), len(same) - missing if missing else len(same), taken_s, priced_s)
