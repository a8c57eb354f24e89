"""What an operator reads off today's dashboard: the p99 of JCT under fcfs, on this engine at this load."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.errors import LapsbenchError
from lapsbench.metrics.saturation import saturation
from lapsbench.policies.registry import find
from lapsbench.policies.work import OF_TODAY
from lapsbench.sim.alone import solo
from lapsbench.sim.setup import set_up

if TYPE_CHECKING:
    from lapsbench.core import Engine, Floats, Workload
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.sweep import Simulator


def fcfs_p99_s(work: Workload, arrival_s: Floats, engine: Engine, costs: StepCosts, replay: Simulator) -> float:
    """Return the p99 of JCT under fcfs.

    Raises:
        LapsbenchError: fcfs does not keep up, so the number would be the trace's length, not the engine's.
    """
    fcfs = find("fcfs")
    ready, setup = set_up(replace(work, arrival_s=arrival_s), engine, fcfs, solo(work, engine, costs), None)
    outcome = replay(ready, engine, fcfs, costs, setup)
    jct_s = outcome.finished_s - ready.arrival_s
    found = float(np.nanquantile(jct_s, 0.99)) if np.isfinite(jct_s).any() else 0.0
    judged = saturation(ready.arrival_s, outcome.finished_s)
    if outcome.stopped or found == 0.0 or (judged is not None and judged.label != "STABLE"):
        raise LapsbenchError(
            "fcfs does not keep up here, so there is no p99 of today to take a patience from",
            where="policy 'work-patient'",
            hint=f"work-patient:patience_s={OF_TODAY * found or 30:.3g}, or less load",
        )
    return found
