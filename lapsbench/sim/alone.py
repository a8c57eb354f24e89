"""Each request on an idle engine: its JCT there (the unit of slowdown), its rounds, and its prefill time."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.policies.pointers import floats, ints, longs, octets
from lapsbench.sim.cost import DRAFT, DRAFT_PREFILL, OVERHEAD, PREFILL, VERIFY
from lapsbench.sim.drafting import row_of, scheduled
from lapsbench.sim.entries import entry
from lapsbench.sim.jit import jit
from lapsbench.sim.memory import address, sim_at
from lapsbench.sim.prices import chunk_time, step_time
from lapsbench.sim.record import Record
from lapsbench.sim.setup import Solo

if TYPE_CHECKING:
    from lapsbench.core import Engine, Workload
    from lapsbench.sim.cost import StepCosts


SHARED = 200_000
"""So many requests are walked on all cores, those that the process may use."""


def solo(work: Workload, engine: Engine, costs: StepCosts) -> Solo:
    """Walk every request alone through the engine."""
    if engine.rules == "vllm":
        work, engine = _unbatched(work, engine)
    n = len(work)
    single = Solo(np.zeros(n), np.zeros(n, np.int32), np.zeros(n))
    cores = len(os.sched_getaffinity(0)) if n >= SHARED and hasattr(os, "sched_getaffinity") else 1
    ends = [n * part // cores for part in range(cores + 1)]

    def walked(first: int, last: int) -> None:
        record = Record(work, engine, costs)  # one each: a walk notes where it looks
        entry("alone.walk")(record.at, *map(address, (single.alone_s, single.rounds, single.prefill_s)), first, last)

    if cores == 1:
        walked(0, n)
        return single
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - most walks are short

    if cores == 1:
        walked(0, n)
    else:
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(walked, ends[:-1], ends[1:]))
    return single


def _unbatched(work: Workload, engine: Engine) -> tuple[Workload, Engine]:
    """Return what serves one request at a time as vLLM does: a small budget bounds its chunks and its drafts."""
    budget = engine.batched_tokens - engine.drafting_slots
    drafts = min(engine.draft_tokens, budget - 1)
    work = replace(work, accept_runs=np.minimum(work.accept_runs, min(drafts, 255)))
    return work, replace(engine, rules="ideal", prefill_budget=budget)


@jit
def accept_run(runs: Any, length: int, shift: int, emitted: int) -> int:
    """Drafts the target would accept now: the recording from its start, then circular blocks of it."""
    place = np.int64(emitted)
    if place >= length:
        place = (place % length + place // length * shift) % length
    return np.int64(runs[place])


@jit
def walk(at: int, alone_s_at: int, rounds_at: int, prefill_s_at: int, first: int, last: int) -> int:
    """Fill the arrays [N] from `first` to before `last`: seconds, rounds, seconds."""
    sim, alone_s, rounds, prefill_s = sim_at(at, 0), floats(alone_s_at), ints(rounds_at), floats(prefill_s_at)
    overhead, k, nominal = step_time(sim, OVERHEAD, 1, 0.0), sim.draft_tokens, nominal_drafts(sim)
    for i in range(first, last):
        prompt, output = np.int64(ints(sim.prompt_tokens_at)[i]), np.int64(ints(sim.output_tokens_at)[i])
        prefill_s[i] = chunk_time(sim, PREFILL, prompt, 0)
        now, done = 0.0, 0
        while done < prompt:
            tokens = prompt - done
            if sim.prefill_budget > 0:
                tokens = min(tokens, sim.prefill_budget)
            work = chunk_time(sim, PREFILL, tokens, done)
            if k > 0:
                work += chunk_time(sim, DRAFT_PREFILL, tokens, done)
            now += overhead + work
            done += tokens
        emitted = 1
        runs = octets(sim.accept_runs_at + longs(sim.recording_start_at)[i])
        length, shift = ints(sim.recording_tokens_at)[i], ints(sim.recording_shift_at)[i]
        while emitted < output:
            context = float(prompt + emitted)
            drafts = scheduled(sim, 1, context)
            draft = step_time(sim, row_of(sim, DRAFT, drafts), 1, context) if drafts > 0 else 0.0
            now += overhead + draft + step_time(sim, row_of(sim, VERIFY, drafts), 1, context)
            emitted += min(accept_run(runs, length, shift, emitted), drafts) + 1
            rounds[i] += 1
        alone_s[i] = now
        if sim.bands > 0:  # rounds are counted as in a full batch
            emitted, rounds[i] = 1, 0
            while emitted < output:
                emitted += min(accept_run(runs, length, shift, emitted), nominal) + 1
                rounds[i] += 1
    return 0


@jit
def nominal_drafts(sim: Any) -> int:
    """Return what the schedule says for a full batch and short contexts; without one, what there is."""
    if sim.bands == 0:
        return sim.draft_tokens
    return np.int64(ints(sim.schedule_drafts_at)[sim.max_batch * sim.bands])
