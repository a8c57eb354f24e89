"""Serves a workload on the real engine, in this process, under our scheduler, and writes the step log.

Open loop: a request is sent when the clock has passed its arrival. What is sent: exactly `prompt_tokens` tokens, drawn
or of a text that is cut or repeated, but for the first, which names the request, so that nothing is shared. What is
asked for: exactly `output_tokens`, whatever the model says, at temperature 0. Acceptance is the model's own, or imposed
as the workload recorded it.
"""

from __future__ import annotations

import gc
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.schedules import RECORDED, VLLMS_KEY, VLLMS_MOST, as_vllm, parsed
from lapsbench.serving.clock import Clock
from lapsbench.serving.prompts import FIRST_TOKEN, told_apart
from lapsbench.sim.reference.ranks import view_of
from lapsbench.vllm.calibrate import told
from lapsbench.vllm.engine import made
from lapsbench.vllm.lookup import NGRAM
from lapsbench.vllm.models import speculation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lapsbench.core import Engine, Policy, Workload
    from lapsbench.serving.clock import ClockKind
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served on: a model's folder, the engine around it, and where the log goes.

    Attributes:
        model: a folder in transformers' format.
        engine: its settings.
        policy: the scheduler.
        log: the file for the step log.
        imposed: acceptance as the workload's recordings say, on the CPU; else the model's own.
        clock: see `serving.clock.Clock`.
        costs: prices, for policies that weigh what preempting costs.
        texts: tokens of texts to send, in turn; none: drawn ones.
        draft: the folder of a draft model, or "ngram:N"; only draft method "ngram" does without.
        more: further arguments of vLLM's `EngineArgs`.
    """

    model: str
    engine: Engine
    policy: Policy
    log: Path
    imposed: bool = True
    clock: ClockKind = "cpu"
    costs: StepCosts | None = None
    texts: Sequence[Sequence[int]] = ()
    draft: str | None = None
    more: Mapping[str, Any] | None = None


def serve(work: Workload, setup: Setup, serving: Serving) -> dict[int, list[int]]:
    """Serve the workload; return the tokens of every request that was served.

    Raises:
        LapsbenchError: more requests than the vocabulary has tokens to tell them apart, the log cannot be written, or
            the policy returned NaN.
    """
    llm = _engine(work, setup, serving)
    try:
        return serve_on(llm, work, setup, serving)
    finally:
        llm.engine_core.shutdown()


def serve_on(
    llm: Any, work: Workload, setup: Setup, serving: Serving, make_clock: Callable[[ClockKind], Clock] = Clock
) -> dict[int, list[int]]:
    """Serve the workload on an engine that is made for it, and that goes on from there.

    Args:
        llm: the engine.
        work: who arrives when, and asks for what.
        setup: what policies know beforehand.
        serving: what it is served on.
        make_clock: of a kind; it starts when it is made.

    Raises:
        LapsbenchError: as `serve`.
    """
    prompts = told_apart(work, llm.model_config.get_vocab_size(), serving.texts)
    _warm_up(llm, prompts[:2])
    scheduler = llm.engine_core.engine_core.scheduler
    scheduler.begin(str(serving.log))
    gc.collect()
    gc.freeze()
    clock, its_clock = make_clock(serving.clock), scheduler.clock
    scheduler.clock, schedule = clock, scheduler.schedule

    def scheduled(*args: Any, **kwargs: Any) -> Any:
        output = schedule(*args, **kwargs)
        clock.release()
        return output

    scheduler.schedule = scheduled
    try:
        return _loop(llm, clock, work, setup, prompts)
    finally:
        gc.unfreeze()
        scheduler.log.close()
        scheduler.clock, scheduler.schedule = its_clock, schedule


def _warm_up(llm: Any, prompts: list[list[int]]) -> None:
    """Serve a few tokens before the clock starts: vLLM compiles its ngram drafter, for a second, in the first step."""
    from vllm import SamplingParams  # noqa: PLC0415 - vLLM takes seconds to import

    room = llm.model_config.max_model_len
    for number, prompt in enumerate(prompts):
        begun = prompt[: max(1, min(16, room // 2))]
        asked = SamplingParams(
            temperature=0.0, max_tokens=max(1, min(8, room - len(begun))), ignore_eos=True, detokenize=False
        )
        llm.add_request(f"warm-up-{number}", {"prompt_token_ids": begun}, asked)
    while llm.has_unfinished_requests():
        llm.step()
    llm.reset_prefix_cache()


def _loop(llm: Any, clock: Clock, work: Workload, setup: Setup, prompts: list[list[int]]) -> dict[int, list[int]]:
    """Send what has arrived, take a step, and so on until all have left, or nobody gets anywhere, as in a replay."""
    sent, idle, texts, board = 0, 0, {}, llm.engine_core.engine_core.scheduler.board
    while sent < len(work) or llm.has_unfinished_requests():
        now_s = clock.hold()
        while sent < len(work) and work.arrival_s[sent] <= now_s:
            _send(llm, work, setup, sent, prompts[sent])
            sent += 1
        if not llm.has_unfinished_requests():
            if sent < len(work):
                clock.idle_until(float(work.arrival_s[sent]))
            continue
        outputs = llm.step()
        idle = 0 if outputs else idle + 1
        if idle > setup.stall_steps:
            break
        for output in outputs:
            if output.finished:
                texts[int(output.request_id)] = list(output.outputs[0].token_ids)
        if board.blamed:
            raise LapsbenchError("returned NaN", where=f"policy {board.policy.name!r}", hint="guarding divisions")
    return texts


def _send(llm: Any, work: Workload, setup: Setup, request: int, prompt: list[int]) -> None:
    """Send a request with what a policy may know of it; one beyond the longest context is refused, and logged so."""
    from vllm import SamplingParams  # noqa: PLC0415 - vLLM takes seconds to import

    scheduler = llm.engine_core.engine_core.scheduler
    view = view_of(work, setup, request, scheduler.step)
    if len(prompt) + int(work.output_tokens[request]) > scheduler.max_model_len:
        number = scheduler.board.skip()
        scheduler.log.arrived(number, str(request), vars(view))
        scheduler.log.left(number, "rejected", scheduler.clock())
        return
    known = {
        "predicted_tokens": view.predicted_tokens,
        "predicted_class": view.predicted_class,
        "predicted_rounds": view.predicted_rounds,
        "prefill_s": view.prefill_s,
        "category": view.category,
        "client": int(work.client[request]),
    }
    asked = SamplingParams(
        temperature=0.0,
        max_tokens=int(work.output_tokens[request]),
        ignore_eos=True,
        detokenize=False,
        extra_args=known,
    )
    llm.add_request(
        str(request),
        {"prompt_token_ids": prompt},
        asked,
        arrival_time=view.arrival_s,
        priority=view.priority,
    )


def _engine(work: Workload, setup: Setup, serving: Serving) -> Any:
    """Make vLLM's engine."""
    engine = serving.engine
    settings: dict[str, Any] = {
        "model": serving.model,
        "max_num_seqs": engine.max_batch,
        "max_num_batched_tokens": engine.batched_tokens,
        "block_size": engine.block_tokens,
        "enable_prefix_caching": engine.prefix_cache,
        "async_scheduling": engine.scheduling == "async",
        **_limits(work, engine),
        **_drafts(serving),
        **(serving.more or {}),
    }
    options = options_of(work, setup, serving)
    if serving.imposed:
        from lapsbench.vllm.imposed import Recordings  # noqa: PLC0415 - imports vLLM

        options["recordings"] = Recordings(work, FIRST_TOKEN, varies=engine.drafts == RECORDED)
    return made(settings, options, _imposing(serving))


def options_of(work: Workload, setup: Setup, serving: Serving) -> dict[str, Any]:
    """Return the scheduler's options: the policy, and what it knows."""
    longest = int((work.prompt_tokens.astype(np.int64) + work.output_tokens).max(initial=1))
    learnt = told(serving.policy, setup, serving.engine, serving.costs, longest)
    return {"policy": serving.policy, "on_preempt": serving.engine.on_preempt, "learnt": learnt}


def _imposing(serving: Serving) -> AbstractContextManager[None]:
    """Return in which context the engine is made."""
    if not serving.imposed or not serving.engine.draft_tokens:
        return nullcontext()
    from lapsbench.vllm.imposed import obeyed  # noqa: PLC0415 - imports vLLM

    return obeyed()


def _limits(work: Workload, engine: Engine) -> dict[str, Any]:
    """Return memory, as the engine has it, and the longest context: no longer than the workload needs.

    Just below the longest context vLLM drafts for nobody in the batch.
    """
    longest = int((work.prompt_tokens.astype(np.int64) + work.output_tokens).max()) + 2 * engine.draft_tokens + 1
    limits: dict[str, Any] = {"max_model_len": min(longest, engine.context_limit)}
    if engine.kv_tokens:
        limits["num_gpu_blocks_override"] = engine.kv_blocks + 1  # one is vLLM's null block
    return limits


def _drafts(serving: Serving) -> dict[str, Any]:
    """Return vLLM's speculative configuration."""
    engine = serving.engine
    if not engine.draft_tokens:
        return {}
    drafts: dict[str, Any] = {VLLMS_MOST: engine.draft_tokens}
    if engine.schedule:
        drafts[VLLMS_KEY] = as_vllm(parsed(engine.schedule), engine.max_batch)
    if serving.imposed:
        from lapsbench.vllm.imposed import PROPOSER  # noqa: PLC0415 - imports vLLM

        drafts |= {"method": "custom_class", "model": PROPOSER}
    elif engine.draft_method == "ngram":
        drafts |= speculation(serving.draft or NGRAM)
    elif serving.draft is not None:
        drafts |= {"method": engine.draft_method, "model": serving.draft}
    else:
        raise UsageError("takes a draft model of its own", where=f"draft method {engine.draft_method}", hint="ngram")
    return {"speculative_config": drafts}
