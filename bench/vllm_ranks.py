"""Time what the plug-in adds to a step of vLLM's scheduler: `.venv-vllm/bin/python bench/vllm_ranks.py`.

64 requests run and 1,000 wait. A step ranks, preempts, and orders the queue; then the 64 are booked. No model runs.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import numpy as np
from vllm import SamplingParams
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from lapsbench.core import Engine
from lapsbench.policies.registry import find
from lapsbench.sim.setup import system_of
from lapsbench.vllm.calibrate import unlearnt
from lapsbench.vllm.config import configured, memory
from lapsbench.vllm.scheduler import Scheduler

RUNNING, WAITING, STEPS = 64, 1000, 2000
TARGET_US = 50.0


class Timed(Scheduler):
    """Has a clock of its own, and times the booking."""

    now_s = 0.0
    booking_s = 0.0

    def book(self, *step: Any) -> None:
        """Book a step."""
        began_s = time.perf_counter()
        type(self.board).book(self.board, *step)
        self.booking_s += time.perf_counter() - began_s


def scheduler_of(name: str) -> Timed:
    """Return a full scheduler."""
    engine = Engine(RUNNING, 0, rules="vllm", kv_tokens=1 << 22, prefix_cache=False)
    config = configured(engine, engine.kv_blocks)
    policy = find(name)
    system = system_of(engine, find("fcfs"), None)
    system["params"][0, : len(policy.parameters)] = list(policy.parameters.values())
    system["mean_tokens_per_round"], system["mean_round_s"] = 1.0, 0.02
    system["mean_service_s"], system["service_p20_s"] = 4.0, 1.0
    config.additional_config = {"lapsbench": {"policy": policy, "on_preempt": "keep", "learnt": unlearnt(system)}}
    made = Timed(
        vllm_config=config,
        kv_cache_config=memory(engine, engine.kv_blocks),
        structured_output_manager=StructuredOutputManager(config),
        block_size=engine.block_tokens,
        log_stats=False,
    )
    made.clock = lambda: made.now_s
    made.board.book = made.book
    draw = np.random.default_rng(1)
    for number in range(RUNNING + WAITING):
        tokens = int(draw.integers(5000, 10000))
        extra = {"predicted_tokens": tokens}
        params = SamplingParams(temperature=0.0, max_tokens=20000, ignore_eos=True, extra_args=extra)
        made.add_request(Request(f"{number}", [number + 10] * 16, params, None, arrival_time=number * 1e-6))
    return made


def measure(name: str) -> tuple[float, float, float]:
    """Return the microseconds a step spends on ranks and order, at the median and on average, and on booking."""
    made, each = scheduler_of(name), []
    for step in range(STEPS + 200):
        if step == 200:
            made.booking_s = 0.0
        spent = made.counters.rank_seconds
        output = made.schedule()
        each.append(made.counters.rank_seconds - spent)
        names = list(output.num_scheduled_tokens)
        made.now_s += 0.02
        places = {known: place for place, known in enumerate(names)}
        tokens = [[7]] * len(names)
        made.update_from_output(output, ModelRunnerOutput(names, places, tokens))
    spent = [1e6 * seconds for seconds in each[200:]]
    return statistics.median(spent), statistics.fmean(spent), 1e6 * made.booking_s / STEPS


def main() -> None:
    """Print a table; exit with 1 where the target is missed."""
    missed = False
    print("| policy | us/step, median | mean | booking |\n|---|---|---|---|")
    for name in sys.argv[1:] or ["srpt", "laps-sd", "mlfq", "srpt-work"]:
        median, mean, booking = measure(name)
        missed |= median > TARGET_US
        print(f"| {name} | {median:.0f} | {mean:.0f} | {booking:.0f} |")
    sys.exit(missed)


if __name__ == "__main__":
    main()
