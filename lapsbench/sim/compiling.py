"""Has the simulator compiled, and tells of it: what is on disk is silent, and so is a policy's tenth of a second."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lapsbench.compiled import native
from lapsbench.sim import kernel
from lapsbench.sim.alone import solo
from lapsbench.sim.prepare import workload
from lapsbench.sim.setup import set_up
from lapsbench.traces.shape import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lapsbench.core import Calibration, Engine, Policy, Profile, Trace
    from lapsbench.policies.predictors import Predictor
    from lapsbench.sim.cost import StepCosts


def replay_one(
    trace: Trace,
    profile: Profile,
    engine: Engine,
    predictor: Predictor,
    policy: Policy,
    costs: StepCosts,
    calibration: Calibration | None,
) -> None:
    """Replay the first request alone: then all is compiled that replaying more of them takes."""
    work = workload(cut(trace, limit=1), profile, engine, predictor, 0)
    work, setup = set_up(work, engine, policy, solo(work, engine, costs), calibration, 1.0)
    kernel.replay(work, engine, policy, costs, setup)


@contextmanager
def told_of_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` once, when the simulator begins to be compiled, if it is."""
    told: list[str] = []

    def hear(name: str) -> None:
        if not told and name.startswith("lapsbench.sim."):
            told.append(name)
            tell()

    native.begun.append(hear)
    try:
        yield
    finally:
        native.begun.remove(hear)
