"""What is replayed: the Azure conversation trace, tiled to a size, at a fraction of what the engine can carry."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from publicdata import public_path

from lapsbench.core import Calibration, Engine, Trace, Workload
from lapsbench.policies.predictors import parse_predictor
from lapsbench.sim import prepare
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import StepCosts, step_costs
from lapsbench.store.profile import open_profile
from lapsbench.traces import open_trace, scale_to_rate
from lapsbench.traces.save import write_trace

if TYPE_CHECKING:
    from lapsbench.sim.setup import Solo

AZURE = "traces/AzureLLMInferenceTrace_conv.csv"
INSTEAD = "chat"  # the shipped trace, where the other is not on this machine
PROFILE = "h100-llama3.1-8b-eagle3"
PREDICTOR = "noisy:sigma=0.5"
ENGINE = Engine(max_batch=64, draft_tokens=3)
LOAD = 0.9
CLIENTS = 16
READ, ASSIGN = "read CSV", "predict, assign acceptance"
"""The laps from a CSV file to a workload that is ready."""


@dataclass(frozen=True, slots=True)
class Case:
    """One size, ready to replay under any policy, and the seconds it took to get there."""

    work: Workload
    costs: StepCosts
    single: Solo
    calibration: Calibration | None
    prepare_s: dict[str, float]


@dataclass(slots=True)
class Stopwatch:
    """Seconds per named lap."""

    laps: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def lap(self, name: str) -> None:
        """Book the time since the last lap."""
        self.laps[name] = time.perf_counter() - self.began
        self.began = time.perf_counter()


def prepare_case(requests: int) -> Case:
    """Read, predict, give acceptance, walk every request alone, find the capacity, scale to the load."""
    profile, predictor = open_profile(PROFILE), parse_predictor(PREDICTOR)
    costs = step_costs(profile, ENGINE)
    calibration = prepare.calibration(profile, ENGINE, predictor, costs, None)  # compiles the kernel, too
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"trace.{suffix}" for suffix in ("parquet", "csv")]
        for path in paths:
            write_trace(tiled(open_trace(str(public_path(AZURE) or INSTEAD)), requests), path)
        clock = Stopwatch()
        open_trace(str(paths[0]))
        clock.lap("read Parquet")
        trace = open_trace(str(paths[1]))
        clock.lap(READ)
    work = prepare.workload(trace, profile, ENGINE, predictor, seed=0)
    clock.lap(ASSIGN)
    single = solo(work, ENGINE, costs)
    clock.lap("each alone")
    rate_rps = LOAD * prepare.at_capacity(work, ENGINE, costs)
    clock.lap("capacity")
    work = replace(work, arrival_s=scale_to_rate(trace, rate_rps).arrival_s)
    return Case(work, costs, single, calibration, clock.laps)


def tiled(trace: Trace, requests: int) -> Trace:
    """Repeat the trace in time, a mean gap between copies, cut to `requests`; clients take turns."""
    copies = -(-requests // len(trace))
    period_s = trace.span_s * (1 + 1 / len(trace))
    arrival_s = np.concatenate([trace.arrival_s + copy * period_s for copy in range(copies)])
    names = np.array([f"client {number}" for number in range(CLIENTS)], dtype=object)
    return Trace(
        trace.name,
        arrival_s[:requests],
        np.tile(trace.prompt_tokens, copies)[:requests],
        np.tile(trace.output_tokens, copies)[:requests],
        client_id=names[np.arange(requests) % CLIENTS],
    )
