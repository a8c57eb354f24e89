"""Random replays under vLLM's rules: settings where the rules bite."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st
from strategies import Scenario, profiles, workloads

from lapsbench.core import Engine, Workload
from lapsbench.policies.predictors import length_class

METHODS = ("ngram", "draft_model", "eagle")


@dataclass(frozen=True)
class Ask:
    """What a test wants of the engines it is given."""

    drafts: tuple[int, ...] = (0, 1, 2, 3, 5, 8)
    methods: tuple[str, ...] = METHODS
    caches: tuple[bool, ...] = (False, True)
    scheduling: tuple[str, ...] = ("sync", "async")
    on_preempt: tuple[str, ...] = ("recompute",)
    budgets: tuple[int, ...] = (16, 64, 64, 100, 256, 512, 8192)


@st.composite
def crowds(draw) -> Workload:
    """Requests whose outputs outgrow the memory together; sizes around the ends of blocks; half of them one by one."""
    n = draw(st.integers(3, 16))
    gap = draw(st.sampled_from([0.0, 0.0, 0.002, 0.02]))
    prompts = st.sampled_from([1, 1, 2, 15, 16, 17, 31, 33, 60, 127, 128, 129])
    outputs = st.sampled_from([1, 2, 15, 16, 17, 40, 90, 150])
    rows = st.tuples(prompts, outputs, st.sampled_from([0.0, 1.0, 1.0, 5.0]), st.integers(0, 2), st.integers(0, 5))
    prompt, output, wait, client, error = zip(*draw(st.lists(rows, min_size=n, max_size=n)), strict=True)
    runs = draw(st.lists(st.integers(0, 9), min_size=1, max_size=7))
    predicted = np.maximum(1.0, np.array(output) * np.array(error) / 2.0)
    return Workload(
        arrival_s=np.cumsum(wait) * gap,
        prompt_tokens=np.array(prompt, np.int32),
        output_tokens=np.array(output, np.int32),
        predicted_tokens=predicted,
        predicted_class=length_class(predicted),
        client=np.array(client, np.int32),
        clients=3,
        recording_start=np.zeros(n, np.int64),
        recording_tokens=np.full(n, len(runs), np.int32),
        recording_shift=np.arange(n, dtype=np.int32) % len(runs),
        accept_runs=np.array(runs, np.uint8),
    )


@st.composite
def engines(draw, work: Workload, ask: Ask) -> Engine:
    """Memory for barely the largest request up to all of them; budgets from 64 tokens; blocks of 1, 16, 128."""
    engine = Engine(
        max_batch=draw(st.integers(1, 9)),
        draft_tokens=draw(st.sampled_from(ask.drafts)),
        on_preempt=draw(st.sampled_from(ask.on_preempt)),
        rules="vllm",
        batched_tokens=draw(st.sampled_from(ask.budgets)),
        block_tokens=draw(st.sampled_from((1, 16, 128))),
        draft_method=draw(st.sampled_from(ask.methods)),
        prefix_cache=draw(st.sampled_from(ask.caches)),
        scheduling=draw(st.sampled_from(ask.scheduling)),
    )
    largest = int((work.prompt_tokens + work.output_tokens).max())
    blocks = -(-largest // engine.block_tokens)
    more = draw(st.sampled_from((0, 0, 1, 2, blocks // 2, blocks, None)))
    memory = 0 if more is None else (blocks + more) * engine.block_tokens
    limit = draw(st.sampled_from((0, 0, 0, largest, largest, largest + 3, max(largest - 40, 2))))
    return replace(engine, kv_tokens=memory, max_model_len=limit)


@st.composite
def cases(draw, ask: Ask = Ask()) -> Scenario:
    """A workload with priorities, an engine of vLLM's rules, a profile."""
    work = draw(st.one_of(crowds(), crowds(), workloads()))
    levels = draw(st.lists(st.integers(-1, 2), min_size=len(work), max_size=len(work)))
    work = replace(work, priority=np.array(levels, np.int32))
    return Scenario(work, draw(engines(work, ask)), draw(profiles()), 200)
