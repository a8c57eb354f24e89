"""The step model of docs/model.md, compiled: what `sim/reference.py` says, fast.

One kernel for every policy: the policy comes in as a typed first-class function (`binding.RANKS_TYPE`), so a new one
compiles alone and this file never again. Nothing per request happens in Python. `advance` runs a bounded number of
steps and returns, so that the caller can show progress and hear Ctrl-C.

What keeps it fast: waiting jobs lie in a heap and are ranked again only when asked for (`Policy.rerank`, reviews); the
batch is ranked in one call; all a round touches of a job is one cache line of `state.HIDDEN` and one of `core.JOB`,
which its policy sees as it is; the block of a job that left is used again; a rank that cannot change is asked once.
Numbers: bench/README.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import from_dtype, int64

from lapsbench.core import FINISHED, REJECTED, SCRATCH, TABLE, UNFINISHED
from lapsbench.errors import LapsbenchError
from lapsbench.policies.binding import RANKS_TYPE, compiled
from lapsbench.policies.pointers import floats, ints, job_at, longs, octets
from lapsbench.sim.alone import accept_run
from lapsbench.sim.cost import DRAFT, DRAFT_PREFILL, OVERHEAD, PREFILL, VERIFY
from lapsbench.sim.heap import insertion_sort
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.lookup import chunk_price, step_price
from lapsbench.sim.memory import own_at, own_of, timer_at, view_of
from lapsbench.sim.queue import enheap, lift, rerank, wait
from lapsbench.sim.record import Replay
from lapsbench.sim.select import select, select_within_memory, swap_time
from lapsbench.sim.state import (
    BLOCK_BYTES,
    BY_STEP,
    BY_TIME,
    DONE,
    GOING,
    NAN_RANK,
    OVERRUN,
    SIM,
    STALLED,
)
from lapsbench.sim.timers import review, schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.core import Engine, Outcome, Policy, Workload
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup

STEPS_PER_CALL = 100_000


@jit
def advance(rank: Any, sim: Any, steps: int) -> int:
    """Run at most `steps` steps; say whether there is more to do."""
    last = sim.step + steps
    while sim.step < last:
        arrive(rank, sim)
        if sim.in_batch + sim.in_wait == 0:
            if sim.next_request == sim.requests:
                return DONE
            sim.now_s = floats(sim.arrival_s_at)[sim.next_request]
            continue
        if timer_at(sim.timers_at, BY_TIME).end + timer_at(sim.timers_at, BY_STEP).end > 0:
            review(rank, sim)
        if sim.kv_tokens > 0:
            select_within_memory(rank, sim)
        else:
            select(rank, sim)
        run_step(sim)
        if sim.culprit >= 0:
            return NAN_RANK
        if sim.idle_steps > sim.stall_steps:
            return STALLED
        if sim.now_s > sim.stop_s:
            return OVERRUN
    return GOING


@inlined
def arrive(rank: Any, sim: Any) -> None:
    """Every arrival with a <= t becomes live, in trace order; one that can never fit is rejected."""
    arrival_s, prompt, output = floats(sim.arrival_s_at), ints(sim.prompt_tokens_at), ints(sim.output_tokens_at)
    while sim.next_request < sim.requests and arrival_s[sim.next_request] <= sim.now_s:
        i = sim.next_request
        sim.next_request += 1
        introduce(sim, i)
        own = own_of(sim, i)
        if 0 < sim.kv_tokens < np.int64(prompt[i]) + output[i] + sim.draft_tokens:
            dismiss(sim, i, REJECTED, np.nan)
            continue
        if sim.charged:
            lift(sim, own.client)
        ints(sim.stash_at)[0] = i
        rerank(rank, sim, sim.stash_at, sim.stash_rank_at, 1)
        own.rank = floats(sim.stash_rank_at)[0]
        wait(sim, i)
        enheap(sim, i)
        schedule(sim, i)


@inlined
def introduce(sim: Any, request: int) -> None:
    """Give a new job a block, one that another left behind if there is one, and write what will not change."""
    if sim.in_free > 0:
        sim.in_free -= 1
        block = longs(sim.free_at)[sim.in_free]
    else:
        sim.in_use += 1  # the first is nobody's
        block = sim.pool_at + sim.in_use * BLOCK_BYTES
    longs(sim.blocks_at)[request] = block
    for i in range(BLOCK_BYTES >> 3):
        longs(block)[i] = 0
    view, own = job_at(block, 0), own_at(block, 0)
    view.review_s = view.review_step = np.inf
    view.arrival_s = view.last_run_s = floats(sim.arrival_s_at)[request]
    view.predicted_tokens = floats(sim.predicted_tokens_at)[request]
    view.predicted_rounds = floats(sim.predicted_rounds_at)[request]
    view.predicted_class = ints(sim.predicted_class_at)[request]
    view.prefill_s = floats(sim.prefill_s_at)[request]
    view.prompt_tokens = view.prefill_left_tokens = ints(sim.prompt_tokens_at)[request]
    view.last_run_step = sim.step - 1
    own.last_emit_s = own.itl_max_s = own.admitted_s = own.first_token_s = np.nan
    own.prompt_tokens, own.output_tokens = view.prompt_tokens, ints(sim.output_tokens_at)[request]
    own.recording_at = sim.accept_runs_at + longs(sim.recording_start_at)[request]
    own.recording_tokens = ints(sim.recording_tokens_at)[request]
    own.recording_shift = ints(sim.recording_shift_at)[request]
    own.client = ints(sim.client_at)[request]


@inlined
def dismiss(sim: Any, job: int, status: int, finished_s: float) -> None:
    """Write down what became of a job that leaves, and keep its block for another."""
    record(sim, job, status, finished_s)
    longs(sim.free_at)[sim.in_free] = longs(sim.blocks_at)[job]
    sim.in_free += 1
    longs(sim.blocks_at)[job] = sim.pool_at
    sim.gone += 1


@jit
def record(sim: Any, job: int, status: int, finished_s: float) -> None:
    """Write down what became of a job."""
    own, view = own_of(sim, job), view_of(sim, job)
    floats(sim.admitted_s_at)[job] = own.admitted_s
    floats(sim.first_token_s_at)[job] = own.first_token_s
    floats(sim.finished_s_at)[job] = finished_s
    floats(sim.itl_max_s_at)[job] = own.itl_max_s
    ints(sim.rounds_at)[job] = view.rounds
    ints(sim.accepted_tokens_at)[job] = view.accepted_tokens
    ints(sim.preemptions_at)[job] = own.preemptions
    longs(sim.recomputed_tokens_at)[job] = own.recomputed_tokens
    octets(sim.status_at)[job] = status


@jit
def record_live(sim: Any) -> None:
    """Write down what became of the jobs that were live when the replay was stopped."""
    for job in range(sim.next_request):
        if longs(sim.blocks_at)[job] != sim.pool_at:
            record(sim, job, UNFINISHED, np.nan)


@inlined
def run_step(sim: Any) -> None:
    """Fill and price the step, then let it happen."""
    k, size, chunks = sim.draft_tokens, sim.in_batch, sim.in_chunk
    decoding = size - chunks
    swap_s = swap_time(sim) if sim.in_swap_outs + sim.in_swap_ins > 0 else 0.0
    overhead = step_price(sim, OVERHEAD, size, 0.0)
    draft = verify = 0.0
    if decoding > 0:
        mean = sim.context_tokens / decoding
        if k > 0:
            draft = step_price(sim, DRAFT, decoding, mean)
        verify = step_price(sim, VERIFY, decoding, mean)
    work = prefill(sim, decoding > 0) if chunks > 0 else 0.0
    dt = overhead + draft + verify + work + swap_s
    sim.now_s += dt
    progress = decoding > 0
    if chunks > 0:
        progress |= finish_chunks(sim)
    emit(sim, dt)
    sim.step += 1
    sim.idle_steps = 0 if progress else sim.idle_steps + 1


@jit
def prefill(sim: Any, shared: bool) -> float:
    """Give out the prefill budget in rank order, and price the chunks. The first one of a job is its admission."""
    jobs, ranks, given = ints(sim.chunk_at), floats(sim.chunk_rank_at), longs(sim.chunk_tokens_at)
    for i in range(sim.in_chunk):
        ranks[i] = own_of(sim, jobs[i]).rank
    insertion_sort(ranks, jobs, sim.in_chunk)
    budget = sim.prefill_budget if sim.prefill_budget > 0 else np.int64(2**62)
    work = 0.0
    for i in range(sim.in_chunk):
        own = own_of(sim, jobs[i])
        if own.started == 0:
            own.started = 1
            own.admitted_s = sim.now_s
            if sim.charged:
                longs(sim.client_prompt_at)[own.client] += own.prompt_tokens
        tokens = min(np.int64(view_of(sim, jobs[i]).prefill_left_tokens), budget)
        cached = np.int64(own.cached_tokens)
        given[i] = tokens
        if tokens == 0:
            continue
        budget -= tokens
        work += chunk_price(sim, PREFILL, tokens, cached, shared)
        if sim.draft_tokens > 0:
            work += chunk_price(sim, DRAFT_PREFILL, tokens, cached, shared)
        shared = True
    return work


@jit
def finish_chunks(sim: Any) -> bool:
    """Book the prefilled tokens; a completed prompt emits the first token. Say whether anything was new work."""
    jobs, given = ints(sim.chunk_at), longs(sim.chunk_tokens_at)
    progress, kept = False, 0
    for i in range(sim.in_chunk):
        job, tokens = jobs[i], given[i]
        own = own_of(sim, job)
        view = view_of(sim, job)
        view.prefill_left_tokens -= tokens
        own.cached_tokens += tokens
        if own.cached_tokens > own.peak_tokens:
            own.peak_tokens = own.cached_tokens
            progress = True
        if view.prefill_left_tokens > 0:
            jobs[kept] = job
            kept += 1
        elif view.emitted_tokens == 0:
            view.emitted_tokens = 1
            own.first_token_s = own.last_emit_s = sim.now_s
            if sim.charged:
                longs(sim.client_emitted_at)[own.client] += 1
    sim.in_chunk = kept
    return progress


@inlined
def emit(sim: Any, dt: float) -> None:
    """Every job of the batch emits its round's tokens, and the finished leave."""
    running, ranks, blocks = ints(sim.running_at), floats(sim.running_rank_at), longs(sim.running_block_at)
    now_s, step, charged = sim.now_s, sim.step, sim.charged
    kept, context = 0, sim.context_tokens
    for i in range(sim.in_batch):
        own, view = own_at(blocks[i], 0), job_at(blocks[i], 0)
        emitted = np.int64(view.emitted_tokens)
        if own.prefilling == 0:
            run = accept_run(octets(own.recording_at), own.recording_tokens, own.recording_shift, emitted)
            tokens = min(run + 1, own.output_tokens - emitted)
            emitted += tokens
            context += tokens
            view.emitted_tokens = emitted
            view.rounds += 1
            view.accepted_tokens += tokens - 1
            gap = now_s - own.last_emit_s
            if not gap <= own.itl_max_s:  # also where there is none yet
                own.itl_max_s = gap
            own.last_emit_s = now_s
            if charged:
                longs(sim.client_emitted_at)[own.client] += tokens
        elif view.prefill_left_tokens == 0:
            own.prefilling = 0
            context += own.prompt_tokens + emitted
        view.attained_s += dt
        view.last_run_s, view.last_run_step = now_s, step
        if emitted == own.output_tokens:
            context -= own.prompt_tokens + emitted
            dismiss(sim, running[i], FINISHED, now_s)
        else:
            running[kept], ranks[kept], blocks[kept] = running[i], ranks[i], blocks[i]
            kept += 1
    sim.in_batch = kept
    sim.context_tokens = context


# from Python -------------------------------------------------------------------------------------------------------


def replay(
    work: Workload,
    engine: Engine,
    policy: Policy,
    costs: StepCosts,
    setup: Setup,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Replay one policy. `progress` is called now and then with the number of requests that have left.

    Raises:
        LapsbenchError: the policy does not compile, returned NaN, or indexed beyond what there is.
    """
    rank = compiled(policy)
    run = Replay(work, engine, policy, costs, setup)
    if not advance.signatures:
        advance.compile((RANKS_TYPE, from_dtype(SIM), int64))
        advance.disable_compile()
    state, where = GOING, f"policy {policy.name!r}"
    try:
        while state == GOING:
            state = advance(rank, run.sim, STEPS_PER_CALL)
            if progress is not None:
                progress(int(run.sim.gone))
    except IndexError as error:  # nothing here checks indices, but `binding` has policies do so
        what = f"indexes beyond an end: job.scratch has {SCRATCH} places, system.table {TABLE:,}"
        raise LapsbenchError(what, where=where, hint="smaller indices") from error
    if state == NAN_RANK:
        raise LapsbenchError(f"returned NaN for request {run.sim.culprit}", where=where, hint="guarding divisions")
    record_live(run.sim)
    return run.outcome({STALLED: "stalled", OVERRUN: "overrun"}.get(state, ""))
