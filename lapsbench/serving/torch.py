"""Serves a workload on our own decoder, in this process, under the `ideal` engine's rules, and writes the step log.

Open loop: a request is served from when the clock has passed its arrival. It has exactly `prompt_tokens` tokens and is
given exactly `output_tokens`, whatever the model says, at temperature 0. Acceptance is the model's own, or imposed as
the workload recorded it: then every step does all of its work, and only what is kept of it is told.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lapsbench.errors import UsageError
from lapsbench.models.sources import load_draft, load_target
from lapsbench.policies.registry import spec_of
from lapsbench.serving.clock import Clock
from lapsbench.serving.executor import ALIGNED, Executor
from lapsbench.serving.log import StepLog
from lapsbench.serving.prompts import drawn
from lapsbench.serving.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lapsbench.core import Engine, Policy, Workload
    from lapsbench.decoding.drafts import Draft
    from lapsbench.decoding.network import Network
    from lapsbench.serving.clock import ClockKind
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup


@dataclass(frozen=True, slots=True)
class TorchServing:
    """What is served on: models, the engine around them, and where the log goes.

    Attributes:
        target: a model, as `lapsbench profile --target` names it.
        draft: what drafts, as `--draft` names it; None for plain decoding.
        engine: its settings, of the rules `ideal`.
        policy: the scheduler.
        costs: prices, for policies and controllers that weigh them.
        log: the file for the step log.
        imposed: acceptance as the workload's recordings say; else the target's own.
        clock: see `serving.clock.Clock`; "cpu" is one thread's, so there is one, and no GPU.
        prompts: of every request; None for random ones.
        device, dtype, seed: of the models; `None`: float32 on a CPU, bfloat16 on CUDA.
        eager: never capture CUDA graphs.
    """

    target: str
    draft: str | None
    engine: Engine
    policy: Policy
    costs: StepCosts
    log: Path
    imposed: bool = True
    clock: ClockKind = "cpu"
    prompts: Sequence[list[int]] | None = None
    device: str = "cpu"
    dtype: str | None = None
    seed: int = 0
    eager: bool = False


@dataclass(frozen=True, slots=True)
class Models:
    """A target and its draft with their caches, loaded: one workload after the other can be served on them.

    Attributes:
        executor: what does steps with them.
        positions: tokens a sequence may have.
    """

    executor: Executor
    positions: int


def load(work: Workload, serving: TorchServing) -> Models:
    """Return target and draft with room for the longest request of a workload, warmed up.

    Raises:
        UsageError: there is nothing to draft with.
        LapsbenchError: a model cannot be loaded.
    """
    if serving.clock == "cpu":
        torch.set_num_threads(1)  # else one thread's CPU time would not be all of it
    target, draft, positions = _networks(work, serving)
    executor = Executor(target, draft, serving.engine.draft_tokens, eager=serving.eager)
    executor.warm_up()
    return Models(executor, positions)


def serve(
    work: Workload,
    setup: Setup,
    serving: TorchServing,
    models: Models | None = None,
    make_clock: Callable[[ClockKind], Clock] = Clock,
) -> dict[int, list[int]]:
    """Serve the workload; return the tokens of every request that was served.

    Args:
        work: who arrives when, and asks for what.
        setup: what policies know beforehand.
        serving: what it is served on.
        models: as `load` made them for requests as long and this engine; None to load them now.
        make_clock: of a kind; it starts when it is made.

    Raises:
        UsageError: the engine swaps, or is not of these rules; CPU time is asked of a GPU.
        LapsbenchError: a model cannot be loaded, or the log cannot be written.
    """
    _check(serving)
    models = models or load(work, serving)
    executor = models.executor
    executor.forget()
    vocabulary = executor.target.vocabulary
    prompts = serving.prompts if serving.prompts is not None else drawn(work, vocabulary)
    log = StepLog(str(serving.log), _header(serving, models.positions))
    gc.collect()
    gc.freeze()
    try:
        server = Server(
            *(work, serving.engine, serving.policy, serving.costs, setup),
            executor=executor,
            prompts=prompts,
            clock=make_clock(serving.clock),
            log=log,
            imposed=serving.imposed,
            positions=models.positions,
        )
        server.run()
    finally:
        gc.unfreeze()
        log.close()
    return {request: text.output for request, text in executor.texts.items()}


def _check(serving: TorchServing) -> None:
    if serving.engine.rules != "ideal":
        raise UsageError("serves by the rules of the ideal engine", where="--engine torch", hint="--engine vllm")
    if serving.engine.on_preempt == "swap":
        raise UsageError("our decoder swaps nothing", where="--on-preempt swap", hint="keep or recompute")
    if serving.clock == "cpu" and serving.device != "cpu":
        raise UsageError("a thread's CPU time is no GPU's time", where="--clock cpu", hint="--clock wall")


def _networks(work: Workload, serving: TorchServing) -> tuple[Network, Draft | None, int]:
    """Return target and draft with room for the longest request that fits, and the tokens a sequence may have."""
    device = torch.device(serving.device)
    dtype = getattr(torch, serving.dtype or ("float32" if device.type == "cpu" else "bfloat16"))
    loaded = load_target(serving.target, device=device, dtype=dtype, seed=serving.seed)
    drafts = serving.engine.draft_tokens
    drafting = load_draft(serving.draft, loaded, seed=serving.seed + 1) if serving.draft and drafts else None
    if drafts and drafting is None:
        raise UsageError("has nothing to draft with", where=f"--draft-tokens {drafts}", hint="--draft, or 0")
    positions = min(loaded.positions, drafting.positions) if drafting else loaded.positions
    longest = int((work.prompt_tokens.astype(np.int64) + work.output_tokens).max(initial=1)) + drafts + 2
    target = loaded.network(serving.engine.max_batch, min(-(-longest // ALIGNED) * ALIGNED, positions))
    return target, drafting.attach(target) if drafting else None, positions


def _header(serving: TorchServing, positions: int) -> dict[str, Any]:
    """Return what a replay has to know of the engine and the policy."""
    engine = serving.engine
    return {
        "engine": "torch",
        "rules_version": "",
        "policy": spec_of(serving.policy),
        "on_preempt": engine.on_preempt,
        "model": serving.target,
        "max_batch": engine.max_batch,
        "draft_tokens": engine.draft_tokens,
        "draft": serving.draft if engine.draft_tokens else None,
        "prefill_budget": engine.prefill_budget,
        "kv_tokens": engine.kv_tokens,
        "max_model_len": positions,
    }
