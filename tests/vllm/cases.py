"""Random replays for the differential test: settings where vLLM's rules bite, and what differs when two disagree."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from lapsbench.core import Engine, Workload
from strategies import Scenario, profiles, workloads

METHODS = ("ngram", "draft_model", "eagle")


@dataclass(frozen=True)
class Ask:
    """What a test wants of the engines it is given."""

    drafts: tuple[int, ...] = (0, 1, 2, 3, 5, 8)
    methods: tuple[str, ...] = METHODS
    caches: tuple[bool, ...] = (False, True)
    scheduling: tuple[str, ...] = ("sync", "async")
    on_preempt: tuple[str, ...] = ("recompute",)


@st.composite
def engines(draw, work: Workload, ask: Ask) -> Engine:
    """Memory for barely the largest request up to all of them; budgets from 64 tokens; blocks of 1, 16, 128."""
    engine = Engine(
        max_batch=draw(st.integers(1, 9)),
        draft_tokens=draw(st.sampled_from(ask.drafts)),
        on_preempt=draw(st.sampled_from(ask.on_preempt)),
        rules="vllm",
        batched_tokens=draw(st.sampled_from((64, 64, 100, 256, 512, 8192))),
        block_tokens=draw(st.sampled_from((1, 16, 128))),
        draft_method=draw(st.sampled_from(ask.methods)),
        prefix_cache=draw(st.sampled_from(ask.caches)),
        scheduling=draw(st.sampled_from(ask.scheduling)),
    )
    largest = int((work.prompt_tokens + work.output_tokens).max())
    blocks = -(-largest // engine.block_tokens)
    more = draw(st.sampled_from((0, 0, 1, 2, blocks // 2, blocks, 2 * blocks, None)))
    memory = 0 if more is None else (blocks + more) * engine.block_tokens
    limit = draw(st.sampled_from((0, 0, largest, largest + 3)))
    return replace(engine, kv_tokens=memory, max_model_len=limit)


@st.composite
def cases(draw, ask: Ask = Ask()) -> Scenario:  # noqa: B008 - immutable
    """A workload with priorities, an engine of vLLM's rules, a profile."""
    work = draw(workloads())
    levels = draw(st.lists(st.integers(-1, 2), min_size=len(work), max_size=len(work)))
    work = replace(work, priority=np.array(levels, np.int32))
    return Scenario(work, draw(engines(work, ask)), draw(profiles()), 200)


def row(part, *, emitted: bool) -> str:
    """Say in a few words what a step does for a request."""
    what = f"{part.tokens} tokens over {part.cached}"
    what += f", {part.drafts} drafts" if part.drafts else ""
    what += "" if part.round else ", prefill"
    return f"request {part.job.request}: {what}{f', emits {part.emitted}' if emitted else ''}"


def first_difference(ours, theirs) -> str:
    """Return both compositions of the first step that differs, or nothing."""
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        mine, its = ([row(part, emitted=True) for part in step.parts] for step in (one, other))
        out, gone = sorted(job.request for job in one.dropped), other.dropped
        when = [(step.began_s, step.ended_s) for step in (one, other)]
        if (mine, out) != (its, gone) or when[0] != when[1]:
            said = [f"step {number} of {len(ours)} and {len(theirs)}"]
            for name, rows, lost, times in (("lapsbench", mine, out, when[0]), ("vLLM", its, gone, when[1])):
                said += [f"{name} at {times[0]!r} to {times[1]!r}, preempts {lost}:", *(f"    {each}" for each in rows)]
            return "\n".join(said)
    return "" if len(ours) == len(theirs) else f"{len(ours)} steps, and {len(theirs)}"
