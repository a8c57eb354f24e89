"""Serve the same requests on our decoder and in the simulator, under three policies at two loads, and compare.

    python bench/served.py OUT PROFILE --target MODEL --draft MODEL [--device cuda] [--loads .7,.9] [--repeats 4]
    python bench/served.py OUT PROFILE --dry-run        # replays, serves nothing

Prices are PROFILE's, acceptance is imposed as a shipped profile recorded it. A repeat has other requests; within one,
policies and loads have the same. A cell that is finished is on disk, a step log and a line of served.jsonl, and is not
served again: the same command goes on. Of every cell it is told, too, how many steps the simulator composes alike, and
what they took over what they are priced, by kind. Takes what a bare machine has (bench/bare.txt).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

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
from lapsbench.validation.composition import KINDS, Log, proof

if TYPE_CHECKING:
    from lapsbench.core import Floats, Policy, Workload
    from lapsbench.serving.torch import Models
    from lapsbench.sim.setup import Setup
    from lapsbench.store.steps import Steps
    from lapsbench.validation.composition import Proof

MOST_PROMPT, MOST_OUTPUT = 1000, 300
POLICIES = ("fcfs", "srpt-work", "laps-sd")
RECORDED = "cpu-smollm2-135m-int4"
PREDICTOR = parse_predictor("noisy:sigma=0.5")


def trace(seed: int, requests: int, scale: float) -> Trace:
    """Make mixed traffic, of 16 to 1,000 prompt tokens and 4 to 300 of output at scale 1."""
    draw = np.random.default_rng(seed)
    arrival_s = np.cumsum(draw.exponential(1.0, requests))
    prompt = np.clip(draw.lognormal(np.log(200), 0.9, requests), 16, MOST_PROMPT)
    output = np.clip(draw.lognormal(np.log(70), 0.9, requests), 4, MOST_OUTPUT)
    sizes = (np.maximum(tokens * scale, 2).astype(np.int32) for tokens in (prompt, output))
    return Trace("made up", arrival_s - arrival_s[0], *sizes)


def main() -> int:
    """Print a line a cell, then a table over the repeats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("profile")
    parser.add_argument("--target", default="")
    parser.add_argument("--draft", default="")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--draft-tokens", type=int, default=3)
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--requests", type=int, default=150)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--loads", default="0.7,0.9")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--dry-run", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    try:
        Cells(asked).run()
    except LapsbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


class Cells:
    """Every load under every policy, again and again.

    Args:
        asked: the command line.
    """

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.engine = Engine(max_batch=asked.max_batch, draft_tokens=asked.draft_tokens, prefill_budget=512)
        self.profile = replace(open_profile(asked.profile), bank=open_profile(RECORDED).bank)
        self.costs = step_costs(self.profile, self.engine)
        self.learnt = calibration(self.profile, self.engine, PREDICTOR, self.costs, trace(0, 500, asked.scale))
        self.models: Models | None = None
        self.proofs: list[Proof] = []
        self.found: dict[tuple[float, str], list[tuple[Floats, Floats]]] = {}

    def run(self) -> None:
        """Serve and replay every cell, then tell of all repeats."""
        loads = [float(each) for each in self.asked.loads.split(",")]
        for repeat, load_, name in itertools.product(range(self.asked.repeats), loads, POLICIES):
            executed_s, simulated_s = self.cell(repeat, load_, name)
            self.found.setdefault((load_, name), []).append((executed_s, simulated_s))
            print(f"{repeat}: {name} at {load_:g}: {_said(executed_s, simulated_s)}", flush=True)
        for (load_, name), pairs in self.found.items():
            executed_s, simulated_s = (np.concatenate(each) for each in zip(*pairs, strict=True))
            print(f"all: {name} at {load_:g}: {_said(executed_s, simulated_s)}", flush=True)
        steps, same = (sum(getattr(each, name) for each in self.proofs) for name in ("steps", "same"))
        print(f"{same:,} of {steps:,} steps composed alike")
        for kind in KINDS:
            taken_s, priced_s = (
                sum(getattr(each, name)[kind] for each in self.proofs) for name in ("taken_s", "priced_s")
            )
            if priced_s:
                print(f"{kind}: {taken_s:.1f} s, {taken_s / priced_s:.3f} of what they are priced")

    def cell(self, repeat: int, load_: float, name: str) -> tuple[Floats, Floats]:
        """Serve and replay one; return the latency of every request, executed and simulated."""
        asked, engine, costs, policy = self.asked, self.engine, self.costs, find(name)
        traffic = trace(1 + repeat, asked.requests, asked.scale)
        plain = workload(traffic, self.profile, engine, PREDICTOR, repeat)
        pace = at_capacity(plain, engine, costs) * traffic.arrival_s[-1] / (len(traffic) - 1)
        work = replace(plain, arrival_s=traffic.arrival_s / (load_ * pace))
        work, setup = set_up(work, engine, policy, solo(plain, engine, costs), self.learnt)
        simulated_s = kernel.replay(work, engine, policy, costs, setup).finished_s - work.arrival_s
        if asked.dry_run:
            return simulated_s, simulated_s
        path = asked.out / f"{name}-{load_:g}-{repeat}.jsonl"
        if not path.exists():
            self.serve(work, setup, policy, path)
        steps = parse(path.read_bytes(), str(path))
        executed_s = np.array([steps.departures[request].at_s for request in range(len(work))]) - work.arrival_s
        told = proof(_log(steps), work, engine, policy, costs, setup, costs)
        about = {"repeat": repeat, "policy": name, "load": load_, "requests": len(work)}
        with (asked.out / "served.jsonl").open("a") as file:
            file.write(json.dumps(about | _numbers(executed_s, simulated_s) | asdict(told)) + "\n")
        self.proofs.append(told)
        return executed_s, simulated_s

    def serve(self, work: Workload, setup: Setup, policy: Policy, path: Path) -> None:
        """Serve a cell; its log has the path once it is whole."""
        asked, clock = self.asked, "cpu" if self.asked.device == "cpu" else "wall"
        log = path.with_suffix(".part")
        serving = TorchServing(
            *(asked.target, asked.draft, self.engine, policy, self.costs, log), clock=clock, device=asked.device
        )
        self.models = self.models or load(_longest(work, asked.scale), serving)
        serve(work, setup, serving, self.models)
        log.replace(path)


def _longest(work: Workload, scale: float) -> Workload:
    """Return a workload whose requests are as long as those of any repeat may be."""
    prompt, output = (np.full(len(work), max(each * scale, 2), dtype=np.int32) for each in (MOST_PROMPT, MOST_OUTPUT))
    return replace(work, prompt_tokens=prompt, output_tokens=output)


def _log(steps: Steps) -> Log:
    """Return the rows of a log by step."""
    sizes: list[dict[int, tuple[int, int, int]]] = [{} for _ in steps.start_s]
    for step, request, tokens, cached, drafts, *_ in steps.rows.tolist():
        if tokens:
            sizes[step][request] = (tokens, cached, drafts)
    return Log(steps.admit_s, steps.start_s, steps.end_s, sizes)


def _numbers(executed_s: Floats, simulated_s: Floats) -> dict[str, float]:
    return {
        "executed_jct_s": float(executed_s.mean()),
        "simulated_jct_s": float(simulated_s.mean()),
        "executed_p99_s": float(np.quantile(executed_s, 0.99)),
        "simulated_p99_s": float(np.quantile(simulated_s, 0.99)),
    }


def _said(executed_s: Floats, simulated_s: Floats) -> str:
    of = _numbers(executed_s, simulated_s)
    texts = []
    for name, unit in (("mean JCT", "jct_s"), ("p99", "p99_s")):
        executed, simulated = of[f"executed_{unit}"], of[f"simulated_{unit}"]
        texts.append(f"{name} {executed:.4g} s, simulated {100 * (simulated / executed - 1):+.1f} %")
    return "; ".join(texts)


if __name__ == "__main__":
    sys.exit(main())
