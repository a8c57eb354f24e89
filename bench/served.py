"""Serve the same requests on our decoder and in the simulator, under three policies at two loads, and compare.

    python bench/served.py OUT PROFILE --target MODEL --draft MODEL [--device cuda] [--loads .7,.9]

Prices are PROFILE's, acceptance is imposed as a shipped profile recorded it. A cell that is finished is on disk: the
step log, and a line of served.jsonl. Takes what a bare machine has (bench/bare.txt).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from lapsbench.core import Engine, Trace
from lapsbench.errors import LapsbenchError
from lapsbench.policies.predictors import parse_predictor
from lapsbench.policies.registry import find
from lapsbench.serving.torch import TorchServing, load, serve
from lapsbench.sim import kernel
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import step_costs
from lapsbench.sim.prepare import at_capacity, calibration, workload
from lapsbench.sim.setup import set_up
from lapsbench.store.profile import open_profile
from lapsbench.store.steps import parse

POLICIES = ("fcfs", "srpt-work", "laps-sd")
RECORDED = "cpu-smollm2-135m-int4"
PREDICTOR = parse_predictor("noisy:sigma=0.5")


def trace(seed: int, requests: int, scale: float) -> Trace:
    """Make mixed traffic, of 16 to 1,000 prompt tokens and 4 to 300 of output at scale 1."""
    draw = np.random.default_rng(seed)
    arrival_s = np.cumsum(draw.exponential(1.0, requests))
    prompt = np.clip(draw.lognormal(np.log(200), 0.9, requests), 16, 1000)
    output = np.clip(draw.lognormal(np.log(70), 0.9, requests), 4, 300)
    sizes = (np.maximum(tokens * scale, 2).astype(np.int32) for tokens in (prompt, output))
    return Trace("made up", arrival_s - arrival_s[0], *sizes)


def main() -> int:
    """Print a line a cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("profile")
    parser.add_argument("--target", required=True)
    parser.add_argument("--draft", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--draft-tokens", type=int, default=3)
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--requests", type=int, default=150)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--loads", default="0.7,0.9")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    try:
        cells(asked)
    except LapsbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def cells(asked: argparse.Namespace) -> None:
    """Serve and replay every cell."""
    engine = Engine(max_batch=asked.max_batch, draft_tokens=asked.draft_tokens, prefill_budget=512)
    profile = replace(open_profile(asked.profile), bank=open_profile(RECORDED).bank)
    costs, traffic = step_costs(profile, engine), trace(1, asked.requests, asked.scale)
    plain = workload(traffic, profile, engine, PREDICTOR, 0)
    pace = at_capacity(plain, engine, costs) * traffic.arrival_s[-1] / (len(traffic) - 1)
    learnt = calibration(profile, engine, PREDICTOR, costs, trace(2, 500, asked.scale))
    single = solo(plain, engine, costs)
    clock = "cpu" if asked.device == "cpu" else "wall"
    models = None
    for load_, name in ((float(each), name) for each in asked.loads.split(",") for name in POLICIES):
        policy = find(name)
        work = replace(plain, arrival_s=traffic.arrival_s / (load_ * pace))
        work, setup = set_up(work, engine, policy, single, learnt)
        log = asked.out / f"{name}-{load_:g}.jsonl"
        serving = TorchServing(asked.target, asked.draft, engine, policy, costs, log, clock=clock, device=asked.device)
        models = models or load(work, serving)
        serve(work, setup, serving, models)
        steps = parse(log.read_bytes(), str(log))
        executed_s = np.array([steps.departures[request].at_s for request in range(len(work))]) - work.arrival_s
        simulated_s = kernel.replay(work, engine, policy, costs, setup).finished_s - work.arrival_s
        found = {
            "policy": name,
            "load": load_,
            "executed_jct_s": float(executed_s.mean()),
            "simulated_jct_s": float(simulated_s.mean()),
            "executed_p99_s": float(np.quantile(executed_s, 0.99)),
            "simulated_p99_s": float(np.quantile(simulated_s, 0.99)),
            "steps": len(steps.start_s),
        }
        with (asked.out / "served.jsonl").open("a") as file:
            file.write(json.dumps(found) + "\n")
        error = found["simulated_jct_s"] / found["executed_jct_s"] - 1
        print(f"{name} at {load_:g}: mean JCT {executed_s.mean():.4g} s, simulated {100 * error:+.1f} %", flush=True)


if __name__ == "__main__":
    sys.exit(main())
