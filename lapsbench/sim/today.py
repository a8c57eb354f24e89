"""What an operator reads off today's dashboard: the p99 of JCT under fcfs, on this engine at this load."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lapsbench.errors import LapsbenchError
from lapsbench.metrics.saturation import saturation
from lapsbench.policies.registry import find
from lapsbench.sim.alone import solo
from lapsbench.sim.setup import set_up

if TYPE_CHECKING:
    from lapsbench.core import Engine, Floats, Workload
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Solo
    from lapsbench.sim.sweep import Simulator


class Today(NamedTuple):
    """The p99, and whether fcfs keeps up: if not, it says how long the trace is rather than how fast the engine."""

    p99_s: float
    keeps_up: bool


def today(
    work: Workload, arrival_s: Floats, engine: Engine, costs: StepCosts, replay: Simulator, single: Solo | None = None
) -> Today:
    """Replay fcfs; `single`: `solo` of this work, if it is at hand.

    Raises:
        LapsbenchError: it finishes nothing, so there is no number at all.
    """
    fcfs = find("fcfs")
    ready, setup = set_up(replace(work, arrival_s=arrival_s), engine, fcfs, single or solo(work, engine, costs), None)
    outcome = replay(ready, engine, fcfs, costs, setup)
    jct_s = outcome.finished_s - ready.arrival_s
    jct_s = jct_s[np.isfinite(jct_s)]
    if not len(jct_s):
        what = "fcfs finishes nothing here, so there is no p99 of today to take a patience from"
        raise LapsbenchError(
            what, where="policy 'work-patient'", hint="work-patient:patience_s=30, or more --kv-tokens"
        )
    p99_s = float(np.quantile(jct_s, 0.99, overwrite_input=True))
    del jct_s, setup
    judged = saturation(ready.arrival_s, outcome.finished_s)
    return Today(p99_s, not outcome.stopped and (judged is None or judged.label == "STABLE"))
