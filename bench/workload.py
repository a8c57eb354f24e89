"""What is replayed: the Azure conversation trace, tiled to a size, at a fraction of what the engine can carry."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lapsbench.acceptance.sample import assign
from lapsbench.core import Bank, Calibration, Engine, Trace, Workload
from lapsbench.policies.predictors import length_class, parse_predictor, predict
from lapsbench.policies.registry import find
from lapsbench.sim import kernel
from lapsbench.sim.cost import StepCosts, step_costs
from lapsbench.sim.setup import Solo, set_up, solo
from lapsbench.store.profile import open_profile
from lapsbench.traces import open_trace, save_trace, scale_to_rate

ROOT = Path(__file__).resolve().parent.parent
AZURE = ROOT.parent / "shared/data/traces/AzureLLMInferenceTrace_conv.csv"
PROFILE = "h100-llama3.1-8b-eagle3"
PREDICTOR = "noisy:sigma=0.5"
ENGINE = Engine(max_batch=64, draft_tokens=3)
LOAD = 0.9
CLIENTS = 16
CALIBRATION_REQUESTS = 1000


@dataclass(frozen=True, slots=True)
class Case:
    """One size, ready to replay under any policy, and the seconds it took to get there."""

    work: Workload
    costs: StepCosts
    single: Solo
    calibration: Calibration
    prepare_s: dict[str, float]


def prepare(requests: int) -> Case:
    """Tile, read back, predict, give acceptance, walk every request alone, and scale to the load."""
    clock = Stopwatch()
    profile = open_profile(PROFILE)
    bank, costs = profile.bank, step_costs(profile, ENGINE)
    if bank is None:
        raise ValueError(f"profile {PROFILE} has no acceptance bank")
    trace = tiled(open_trace(str(AZURE) if AZURE.exists() else "chat"), requests)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.parquet"
        save_trace(trace, path)
        clock.start()
        trace = open_trace(str(path))
        clock.lap("read")
    work = workload(trace, bank)
    clock.lap("predict, assign")
    single = solo(work, ENGINE, costs)
    clock.lap("alone")
    work = replace(work, arrival_s=scale_to_rate(trace, LOAD * capacity_rps(work, costs, single)).arrival_s)
    return Case(work, costs, single, calibrate(bank, costs), clock.laps)


def tiled(trace: Trace, requests: int) -> Trace:
    """Repeat the trace in time, a mean gap between copies, cut to `requests`."""
    copies = -(-requests // len(trace))
    period_s = trace.span_s * (1 + 1 / len(trace))
    arrival_s = np.concatenate([trace.arrival_s + copy * period_s for copy in range(copies)])
    return Trace(
        f"{trace.name} x {copies}",
        arrival_s[:requests],
        np.tile(trace.prompt_tokens, copies)[:requests],
        np.tile(trace.output_tokens, copies)[:requests],
    )


def workload(trace: Trace, bank: Bank) -> Workload:
    """Predictions, acceptance, and clients in turn."""
    mine = assign(trace, bank, seed=0)
    predicted_tokens, predicted_class = predict(parse_predictor(PREDICTOR), trace.output_tokens, 0)
    return Workload(
        arrival_s=trace.arrival_s,
        prompt_tokens=trace.prompt_tokens,
        output_tokens=trace.output_tokens,
        predicted_tokens=predicted_tokens,
        predicted_class=predicted_class,
        client=(np.arange(len(trace)) % CLIENTS).astype(np.int32),
        clients=CLIENTS,
        recording_start=mine.recording_start,
        recording_tokens=mine.recording_tokens,
        recording_shift=mine.recording_shift,
        accept_runs=bank.accept_runs,
    )


def capacity_rps(work: Workload, costs: StepCosts, single: Solo) -> float:
    """Requests over makespan with all arrivals at 0 under fcfs (DESIGN section 7)."""
    policy, saturated = find("fcfs"), replace(work, arrival_s=np.zeros(len(work)))
    outcome = kernel.replay(saturated, ENGINE, policy, costs, set_up(saturated, ENGINE, policy, single, None)[1])
    return len(work) / outcome.makespan_s


def calibrate(bank: Bank, costs: StepCosts) -> Calibration:
    """Serve requests of the bank's own lengths, all at once, under fcfs: rounds and service time in a full batch."""
    rows = np.random.default_rng(0).choice(len(bank), CALIBRATION_REQUESTS)
    sample = Trace("calibration", np.zeros(len(rows)), bank.prompt_tokens[rows], bank.output_tokens[rows])
    work = workload(sample, bank)
    policy = find("fcfs")
    _, setup = set_up(work, ENGINE, policy, solo(work, ENGINE, costs), None)
    outcome = kernel.replay(work, ENGINE, policy, costs, setup)
    rounds = int(outcome.rounds.sum())
    return Calibration(
        rounds=outcome.rounds,
        service_s=outcome.finished_s - outcome.admitted_s,
        predicted_class=length_class(work.predicted_tokens),
        mean_tokens_per_round=1 + int(outcome.accepted_tokens.sum()) / rounds,
        mean_round_s=float((outcome.finished_s - outcome.first_token_s).sum()) / rounds,
        source="the profile's bank",
    )


class Stopwatch:
    """Seconds per named lap."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.began = time.perf_counter()

    def start(self) -> None:
        self.began = time.perf_counter()

    def lap(self, name: str) -> None:
        self.laps[name] = time.perf_counter() - self.began
        self.start()
