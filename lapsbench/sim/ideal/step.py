"""A step of the ideal engine, compiled: what the twin says of it, fast."""

from __future__ import annotations

from typing import Any

import numpy as np

from lapsbench.core import FINISHED
from lapsbench.policies.pointers import floats, ints, job_at, longs, octets
from lapsbench.sim.alone import accept_run
from lapsbench.sim.cost import DRAFT, DRAFT_PREFILL, OVERHEAD, PREFILL, VERIFY
from lapsbench.sim.drafting import (
    ALIKE,
    APART,
    COUNTED,
    FIXED,
    ask,
    bits_of,
    countable,
    fold,
    forget_who_would,
    give_all,
    mean_of,
    note_round,
    row_of,
    show_policy,
    tally,
    verify_price,
    would_accept,
)
from lapsbench.sim.heap import insertion_sort
from lapsbench.sim.ideal.select import select, select_within_memory, swap_time
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.jobs import arrive, dismiss
from lapsbench.sim.memory import own_at, own_of, sim_at, timer_at, view_of
from lapsbench.sim.prices import chunk_price, mixed_price, step_price
from lapsbench.sim.state import BY_STEP, BY_TIME, CROWDED, DONE, GOING, NAN_RANK, OVERRUN, STALLED
from lapsbench.sim.timers import review


@jit
def advance(rank: int, control: int, at: int, steps: int) -> int:
    """Run at most `steps` steps; say whether there is more to do. All but that are addresses."""
    sim = sim_at(at, 0)
    last = sim.step + steps
    while sim.step < last:
        arrive(rank, sim)
        if sim.crowded:
            break
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
        run_step(control, sim)
        if sim.culprit >= 0:
            return NAN_RANK
        if sim.idle_steps > sim.stall_steps:
            return STALLED
        if sim.now_s > sim.stop_s:
            return OVERRUN
    return CROWDED if sim.crowded else GOING


@inlined
def run_step(control: Any, sim: Any) -> None:
    """Fill and price the step, then let it happen."""
    size, chunks, most = sim.in_batch, sim.in_chunk, sim.draft_tokens
    decoding = size - chunks
    swap_s = swap_time(sim) if sim.in_swap_outs + sim.in_swap_ins > 0 else 0.0
    overhead = step_price(sim, OVERHEAD, size, 0.0)
    draft = verify = context = mean = 0.0
    if decoding > 0:
        context, mean = sim.context_tokens / decoding, 1.0 * most
        if sim.varies:
            most, mean = say_drafts(control, sim, decoding)
        if most > 0:
            draft = step_price(sim, row_of(sim, DRAFT, most), decoding, context)
    work = prefill(sim, decoding > 0, most > 0) if chunks > 0 else 0.0
    if sim.mixes and decoding > 0 and chunks > 0:
        verify = mixed_price(sim, decoding, mean, context)
    elif decoding > 0:
        verify = (
            verify_price(sim, decoding, mean, context) if sim.varies else step_price(sim, VERIFY, decoding, context)
        )
    dt = overhead + draft + verify + work + swap_s
    sim.now_s += dt
    progress = decoding > 0
    if chunks > 0:
        progress |= finish_chunks(sim)
    if sim.varies:
        apart = sim.for_each or (sim.counts_places and not countable(sim.drafts, decoding))
        sim.step_drafted = 0 if apart else decoding * sim.drafts
        if apart:
            if not sim.for_each:
                give_all(sim, decoding)
            emit_by_request(sim, dt)
        elif sim.counts_places:
            emit_and_count(sim, dt)
        else:
            emit_by_step(sim, dt)
        tally(sim, decoding, decoding, draft, dt)
    else:
        emit(sim, dt, FIXED)
    sim.step += 1
    sim.idle_steps = 0 if progress else sim.idle_steps + 1


@jit
def say_drafts(control: Any, sim: Any, decoding: int) -> tuple[int, float]:
    """Ask for the drafts of the jobs that do a round; return the most of one, and their mean."""
    if sim.for_each or sim.wants_runs:
        if sim.wants_runs:
            forget_who_would(sim)
        blocks, count = longs(sim.running_block_at), 0
        for i in range(sim.in_batch):
            own, view = own_at(blocks[i], 0), job_at(blocks[i], 0)
            if own.prefilling == 0:
                longs(sim.asked_at)[count] = blocks[i]
                count += 1
                if sim.wants_runs:
                    emitted = np.int64(view.emitted_tokens)
                    runs = octets(own.recording_at)
                    would_accept(sim, accept_run(runs, own.recording_tokens, own.recording_shift, emitted), 1)
    most = ask(control, sim, decoding, sim.context_tokens, sim.step)
    sim.drafts = most
    show_policy(sim, most)
    return most, mean_of(sim, decoding) if sim.for_each else 1.0 * most


@jit
def prefill(sim: Any, shared: bool, drafting: bool) -> float:
    """Give out the prefill budget in rank order, and price what has no price together with the rounds.

    The first chunk of a job is its admission.
    """
    jobs, ranks, given = ints(sim.chunk_at), floats(sim.chunk_rank_at), longs(sim.chunk_tokens_at)
    for i in range(sim.in_chunk):
        ranks[i] = own_of(sim, jobs[i]).rank
    insertion_sort(ranks, jobs, sim.in_chunk)
    budget = sim.prefill_budget if sim.prefill_budget > 0 else np.int64(2**62)
    work, mixes = 0.0, sim.mixes and shared
    sim.chunks_tokens = sim.chunks_cached = 0
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
        sim.chunks_tokens += tokens
        sim.chunks_cached += tokens * cached
        if not mixes:
            work += chunk_price(sim, PREFILL, tokens, cached, shared)
        if drafting:
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


@jit
def emit_by_step(sim: Any, dt: float) -> None:
    """As `emit`, where drafts vary from step to step: apart, as loops that can do more are a fifth slower each."""
    emit(sim, dt, ALIKE)


@jit
def emit_and_count(sim: Any, dt: float) -> None:
    """As `emit_by_step`, where the controller reads what was accepted by place."""
    emit(sim, dt, COUNTED)
    sim.step_accepted = fold(sim, sim.step_accepted)


@jit
def emit_by_request(sim: Any, dt: float) -> None:
    """As `emit`, where requests have drafts of their own."""
    emit(sim, dt, APART)


@inlined
def emit(sim: Any, dt: float, drafting: int) -> None:
    """Every job of the batch emits its round's tokens, and the finished leave."""
    running, ranks, blocks = ints(sim.running_at), floats(sim.running_rank_at), longs(sim.running_block_at)
    now_s, step, charged = sim.now_s, sim.step, sim.charged
    kept, context, drafts, asked = 0, sim.context_tokens, sim.drafts, 0
    drafted, accepted, bits = sim.step_drafted, np.int64(0), bits_of(sim.drafts)
    for i in range(sim.in_batch):
        own, view = own_at(blocks[i], 0), job_at(blocks[i], 0)
        emitted = np.int64(view.emitted_tokens)
        if own.prefilling == 0:
            run = accept_run(octets(own.recording_at), own.recording_tokens, own.recording_shift, emitted)
            if drafting == APART:
                drafts = np.int64(ints(sim.chosen_at)[asked])
                asked += 1
                drafted += drafts
            if drafting != FIXED:  # else no recording says more than `drafts`
                run = min(run, drafts)
            if drafting == APART:
                note_round(sim, view, drafts, run)
            if drafting == COUNTED:
                accepted += 1 << (run * bits)
            else:
                accepted += run
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
    sim.step_drafted, sim.step_accepted = drafted, accepted
