"""Serve one workload under three schedulers on the real engine, and see whether they come out in the simulated order.

`.venv-vllm/bin/python bench/vllm_order.py [REPEATS]`: some layers of SmolLM2-135M, one thread, CPU time. Step times are
fitted to a first run under fcfs; with them the simulator says what the three should take; then each is served.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is there
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

import numpy as np
from layers import first_layers

from lapsbench.core import Costs, Engine, Profile, Trace, Workload
from lapsbench.policies.predictors import length_class, parse_predictor
from lapsbench.policies.registry import find
from lapsbench.sim import kernel
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import step_costs
from lapsbench.sim.prepare import calibration
from lapsbench.sim.setup import set_up
from lapsbench.store.steps import Steps, parse
from lapsbench.vllm.serve import Serving, serve

POLICIES = ("fcfs", "srpt", "srpt-work")
PREDICTOR = parse_predictor("noisy:sigma=0.5")
REQUESTS, OVERLOAD = 120, 2.5
ENGINE = Engine(max_batch=8, draft_tokens=0, rules="vllm", batched_tokens=1024, block_tokens=32, max_model_len=2048)
GAP = 0.10
"""Simulated, between one policy and the next: below it an order proves nothing."""


def workload(seed: int, rate_rps: float) -> Workload:
    """Make mixed traffic: long prompts with short answers, short prompts with longer ones; predictions are noisy."""
    draw = np.random.default_rng(seed)
    arrival_s = np.cumsum(draw.exponential(1 / rate_rps, REQUESTS))
    reads = draw.random(REQUESTS) < 0.15
    prompt = np.where(reads, draw.integers(1000, 1900, REQUESTS), draw.integers(16, 120, REQUESTS)).astype(np.int32)
    writes = np.clip(draw.lognormal(np.log(60), 1.2, REQUESTS), 4, 300)
    output = np.where(reads, draw.integers(4, 24, REQUESTS), writes).astype(np.int32)
    predicted = output * draw.lognormal(0.0, 0.5, REQUESTS)
    return Workload(
        arrival_s=arrival_s - arrival_s[0],
        prompt_tokens=prompt,
        output_tokens=output,
        predicted_tokens=predicted,
        predicted_class=length_class(predicted),
        client=np.zeros(REQUESTS, np.int32),
        clients=1,
        recording_start=np.zeros(REQUESTS, np.int64),
        recording_tokens=np.ones(REQUESTS, np.int32),
        recording_shift=np.zeros(REQUESTS, np.int32),
        accept_runs=np.zeros(1, np.uint8),
    )


def fitted(log: Steps) -> Profile:
    """Fit to every step's time: so much a step, a decode, and a prompt token."""
    steps, tokens = len(log.start_s), log.column("tokens")
    decodes = np.bincount(log.column("step"), tokens == 1, steps)
    prompt = np.bincount(log.column("step"), np.where(tokens > 1, tokens, 0), steps)
    design = np.column_stack([np.ones(steps), decodes, prompt])
    took_s = log.end_s - log.start_s
    step_s, decode_s, token_s = np.linalg.lstsq(design, took_s, rcond=None)[0]
    error = np.abs(design @ [step_s, decode_s, token_s] - took_s).mean() / took_s.mean()
    print(f"a step {1e3 * step_s:.2f} ms, a decode {1e3 * decode_s:.3f}, a prompt token {1e3 * token_s:.4f}; ", end="")
    print(f"{steps} steps fitted within {100 * error:.0f} % on average")
    grid = [("overhead", 1, 1, step_s), ("prefill", 1, 1, token_s), ("prefill", 1, 2048, 2048 * token_s)]
    grid += [("verify", batch, 1, batch * decode_s) for batch in (1, ENGINE.max_batch)]
    component, batch, query, time_s = zip(*grid, strict=True)
    sizes = (np.array(each, np.int32) for each in (batch, query, [1] * len(grid)))
    return Profile("fitted", Costs(np.array(component, object), *sizes, np.maximum(np.array(time_s), 1e-9)), None)


def ready(work: Workload, profile: Profile, name: str) -> tuple:
    """Return what a replay of a policy takes."""
    policy, costs = find(name), step_costs(profile, ENGINE)
    past = workload(0, 1.0)
    history = Trace("yesterday", past.arrival_s, past.prompt_tokens, past.output_tokens)
    learnt = calibration(profile, ENGINE, PREDICTOR, costs, history)
    seen, setup = set_up(work, ENGINE, policy, solo(work, ENGINE, costs), learnt)
    return seen, ENGINE, policy, costs, setup


def served(work: Workload, profile: Profile, name: str, on: str, log: Path) -> Steps:
    """Serve the workload for real; return its step log."""
    seen, engine, policy, _, setup = ready(work, profile, name)
    serve(seen, setup, Serving(on, engine, policy, log, imposed=False, more={"dtype": "float32"}))
    gc.collect()  # an engine is full of cycles, and holds the model
    return parse(log.read_bytes(), str(log))


def mean_jct_s(log: Steps) -> float:
    """Return the mean JCT of those who finished."""
    return statistics.fmean(gone.at_s - log.arrivals[number].arrival_s for number, gone in log.departures.items())


def main() -> None:
    """Print a table a repeat; exit with 1 where an order differs or a simulated gap is too small."""
    repeats, failed = int(sys.argv[1]) if len(sys.argv) > 1 else 3, False
    flat = Profile("flat", fitted_nothing(), None)
    with TemporaryDirectory() as folder:
        on, log = first_layers(Path(folder) / "model"), Path(folder) / "steps.jsonl"
        profile = fitted(served(workload(0, 1000.0), flat, "fcfs", on, log))
        rate_rps = OVERLOAD * capacity_rps(profile)
        print(f"{REQUESTS} requests at {rate_rps:.2f} req/s, {OVERLOAD} of what the engine carries")
        for repeat in range(repeats):
            work = workload(repeat + 1, rate_rps)
            print(f"\nrepeat {repeat + 1} | simulated mean JCT s | over the one before | served | over the one before")
            before = None
            for name in POLICIES:
                seen, *rest = ready(work, profile, name)
                outcome = kernel.replay(seen, *rest)
                expected = float((outcome.finished_s - seen.arrival_s).mean())
                real = mean_jct_s(served(work, profile, name, on, log))
                gaps = [now / then - 1 for now, then in zip((expected, real), before or (expected, real), strict=True)]
                print(f"{name:9} | {expected:.3f} | {gaps[0]:+.1%} | {real:.3f} | {gaps[1]:+.1%}")
                if before:
                    failed |= gaps[0] > -GAP or gaps[1] >= 0
                before = expected, real
    print("\nFAIL" if failed else "\nPASS: the served order is the simulated one in every repeat")
    sys.exit(failed)


def capacity_rps(profile: Profile) -> float:
    """Return the requests a second that a full queue is served at."""
    seen, *rest = ready(workload(0, 1e9), profile, "fcfs")
    return REQUESTS / kernel.replay(seen, *rest).makespan_s


def fitted_nothing() -> Costs:
    """Return costs for the run that the others are fitted to."""
    one = np.ones(2, np.int32)
    return Costs(np.array(["verify", "prefill"], object), one, one, one, np.array([0.02, 0.001]))


if __name__ == "__main__":
    main()
