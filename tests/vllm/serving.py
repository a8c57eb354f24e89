"""What the step proof serves on the real engine: `python serving.py FOLDER` serves every case, a log and a text each.

In a process of its own: vLLM keeps memory for every engine it makes.
"""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from layers import first_layers
from strategies import CALIBRATION, constant

from lapsbench.core import Engine, Workload
from lapsbench.policies.predictors import length_class
from lapsbench.policies.registry import find
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import step_costs
from lapsbench.sim.setup import set_up

REQUESTS = 60


@dataclass(frozen=True)
class Case:
    """One run of the real engine."""

    policy: str
    on_preempt: str
    drafts: int
    imposed: bool = True

    @property
    def name(self) -> str:
        drafting = f"k{self.drafts}" if self.imposed else f"ngram{self.drafts}"
        return f"{self.policy}-{self.on_preempt}-{drafting}"

    def ready(self):
        """Return what a replay takes; prices are there only for times a policy is told beforehand."""
        engine = Engine(
            max_batch=8,
            draft_tokens=self.drafts,
            rules="vllm",
            batched_tokens=256,
            block_tokens=32,  # the least that vLLM's attention takes on a CPU
            kv_tokens=32 * 20,
            max_model_len=400,
            on_preempt=self.on_preempt,
        )
        policy, work = find(self.policy), workload()
        costs = step_costs(constant(0.02, draft=0.001), engine)
        work, setup = set_up(work, engine, policy, solo(work, engine, costs), CALIBRATION)
        return work, engine, policy, costs, setup


@dataclass(frozen=True)
class Proof:
    """A run whose steps are all the same."""

    case: str
    steps: int
    preemptions: int


PROVEN: list[Proof] = []
"""What the step proof has seen."""
WAYS = [("fcfs", "recompute"), ("srpt", "recompute"), ("srpt", "keep"), ("laps-sd", "recompute"), ("laps-sd", "keep")]
IMPOSED = [Case(policy, on_preempt, drafts) for drafts in (0, 3) for policy, on_preempt in WAYS]
NGRAM = [Case(policy, on_preempt, 3, imposed=False) for policy, on_preempt in WAYS[:3]]


def workload() -> Workload:
    """Make prompts of 16 to 300 tokens, outputs of 4 to 60, a mean of about one accepted draft, wrong predictions."""
    draw = np.random.default_rng(3)
    n = REQUESTS
    arrival_s = np.cumsum(draw.exponential(1 / 40, n))  # faster than any CPU serves them
    prompt = np.clip(draw.lognormal(3.9, 0.8, n), 16, 300).astype(np.int32)
    output = np.clip(draw.lognormal(3.0, 0.7, n), 4, 60).astype(np.int32)
    chance = draw.beta(2, 2, n)
    runs = [np.minimum(draw.geometric(1 - 0.9 * chance[i], output[i]) - 1, 3) for i in range(n)]
    predicted = output * draw.choice([0.5, 1.0, 2.0], n)
    return Workload(
        arrival_s=arrival_s - arrival_s[0],
        prompt_tokens=prompt,
        output_tokens=output,
        predicted_tokens=predicted,
        predicted_class=length_class(predicted),
        client=np.zeros(n, np.int32),
        clients=1,
        recording_start=(np.cumsum(output) - output).astype(np.int64),
        recording_tokens=output.copy(),
        recording_shift=np.zeros(n, np.int32),
        accept_runs=np.concatenate(runs).astype(np.uint8),
    )


def main(folder: Path) -> None:
    """Serve every case."""
    from lapsbench.vllm.serve import Serving, serve

    on = first_layers(folder / "model")
    for case in (*IMPOSED, *NGRAM):
        work, engine, policy, _, setup = case.ready()
        log = folder / f"{case.name}.jsonl"
        serving = Serving(on, engine, policy, log, imposed=case.imposed, more={"dtype": "float32"})
        texts = serve(work, setup, serving)
        (folder / f"{case.name}.json").write_text(json.dumps([texts[request] for request in range(len(work))]))
        gc.collect()  # an engine is full of cycles, and holds the model


if __name__ == "__main__":
    main(Path(sys.argv[1]))
