"""A step under vLLM's rules, compiled: what `sim/reference/vllm.py` says of it, fast.

In the names of arguments, `sim` is a `state.SIM` record.
"""

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
    bits_of,
    countable,
    fold,
    note_round,
    row_of,
    tally,
    verify_price,
)
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.jobs import arrive, dismiss
from lapsbench.sim.memory import own_at, own_of, part_at, sim_at, timer_at, view_of
from lapsbench.sim.prices import chunk_price, mixed_price, step_price
from lapsbench.sim.queue import unwait
from lapsbench.sim.state import (
    BY_STEP,
    BY_TIME,
    CROWDED,
    DONE,
    GOING,
    NAN_RANK,
    OVERRUN,
    STALLED,
    STEPS_UNDER_WAY,
    WAITING,
)
from lapsbench.sim.timers import review
from lapsbench.sim.vllm.blocks import release
from lapsbench.sim.vllm.compose import compose
from lapsbench.sim.weighing import count_work


@jit
def advance(rank: int, control: int, at: int, steps: int) -> int:
    """Run at most `steps` steps; say whether there is more to do. All but that are addresses."""
    sim = sim_at(at, 0)
    last = sim.step + steps
    while sim.step < last:
        arrive(rank, sim)
        if sim.crowded:
            break
        if sim.in_batch + sim.in_wait == 0 and sim.under_way == 0:
            if sim.next_request == sim.requests:
                return DONE
            sim.now_s = floats(sim.arrival_s_at)[sim.next_request]
            continue
        state = take_step(rank, control, sim)
        if sim.culprit >= 0:
            return NAN_RANK
        if state != GOING:
            return state
        if sim.idle_steps > sim.stall_steps:
            return STALLED
        if sim.now_s > sim.stop_s:
            return OVERRUN
    return CROWDED if sim.crowded else GOING


@inlined
def take_step(rank: Any, control: Any, sim: Any) -> int:
    """Compose a step; run the oldest when as many are composed as there may be, or nothing more can be."""
    parts = 0
    sim.in_dropped = 0
    if sim.in_batch + sim.in_wait > 0:
        if timer_at(sim.timers_at, BY_TIME).end + timer_at(sim.timers_at, BY_STEP).end > 0:
            review(rank, sim)
        parts = compose(rank, control, sim)
    if parts > 0:
        longs(sim.sizes_at)[sim.step % STEPS_UNDER_WAY] = sim.in_parts
        sim.under_way += 1
        sim.step += 1
        if sim.asynchronous and sim.under_way < STEPS_UNDER_WAY:
            return GOING
    if sim.under_way > 0:
        run_step(sim, sim.step - sim.under_way)
        sim.under_way -= 1
    elif sim.in_dropped == 0:  # nobody can run: time goes on to the next arrival
        if sim.next_request == sim.requests or sim.in_wait >= sim.wait_most:
            return STALLED
        sim.now_s = floats(sim.arrival_s_at)[sim.next_request]
    return GOING


@inlined
def run_step(sim: Any, step: int) -> None:
    """Let time pass, and book what the step did."""
    first, size = sim.max_batch * (step % STEPS_UNDER_WAY), longs(sim.sizes_at)[step % STEPS_UNDER_WAY]
    began_s = sim.now_s
    more = sim.draft_tokens
    if sim.varies:
        place = step % STEPS_UNDER_WAY
        sim.drafts = longs(sim.sizes_at)[STEPS_UNDER_WAY + place]
        more = longs(sim.sizes_at)[2 * STEPS_UNDER_WAY + place]
    decoding, price_s = price(sim, first, size)
    sim.now_s += price_s
    if sim.varies:
        sim.step_drafted, sim.step_accepted, sim.learnt = sim.rounds * sim.drafts, 0, sim.rounds
    dt = sim.now_s - began_s  # what a clock shows: not to the last bit what was added
    progress = sim.rounds > 0
    if sim.rounds > 0 and sim.varies:
        do_varying_rounds(sim, dt, step, more)
    elif sim.rounds > 0:
        do_rounds(sim, dt, step, more, FIXED)
    ended = False
    for i in range(first, first + size):
        part = part_at(sim.parts_at, i)
        if not gone(sim, part.job):  # else: composed before it was known that the job would end
            progress |= book(sim, part, dt, step)
            if gone(sim, part.job):
                ended = True
            elif part.emits:
                sim.context_tokens += context_of(sim, part.job)
    if ended:
        close_ranks(sim)
    sim.all_ran = not sim.asynchronous and size + sim.rounds >= sim.in_batch and sim.rounds > 0
    sim.rounds = 0
    if sim.varies:
        tally(sim, decoding, sim.learnt, sim.draft_s, price_s)
    sim.idle_steps = 0 if progress else sim.idle_steps + 1


@inlined
def do_varying_rounds(sim: Any, dt: float, step: int, more: int) -> None:
    """As `do_rounds`, by what varies."""
    if sim.for_each or (sim.counts_places and not countable(sim.drafts, sim.rounds)):
        do_rounds_by_request(sim, dt, step, more)
    elif sim.counts_places:
        do_rounds_and_count(sim, dt, step, more)
    else:
        do_rounds_by_step(sim, dt, step, more)


@jit
def do_rounds_by_step(sim: Any, dt: float, step: int, more: int) -> None:
    """As `do_rounds`, where drafts vary from step to step: apart, as loops that can do more are a fifth slower each."""
    do_rounds(sim, dt, step, more, ALIKE)


@jit
def do_rounds_and_count(sim: Any, dt: float, step: int, more: int) -> None:
    """As `do_rounds_by_step`, where the controller reads what was accepted by place."""
    do_rounds(sim, dt, step, more, COUNTED)
    sim.step_accepted = fold(sim, sim.step_accepted)


@jit
def do_rounds_by_request(sim: Any, dt: float, step: int, more: int) -> None:
    """As `do_rounds`, where requests have drafts of their own: in these rounds, as many as each other."""
    do_rounds(sim, dt, step, more, APART)


@inlined
def do_rounds(sim: Any, dt: float, step: int, more: int, drafting: int) -> None:
    """Let the first of the batch do the whole round they were given; who has all its tokens leaves.

    `more`: drafts for their next round.
    """
    running, ranks, blocks = ints(sim.running_at), floats(sim.running_rank_at), longs(sim.running_block_at)
    now_s, charged, k = sim.now_s, sim.charged, sim.drafts
    kept, context, accepted = 0, sim.context_tokens, np.int64(0)
    changed, bits = more != k, bits_of(k)
    for i in range(sim.rounds):
        own, view = own_at(blocks[i], 0), job_at(blocks[i], 0)
        emitted = np.int64(view.emitted_tokens)
        run = min(accept_run(octets(own.recording_at), own.recording_tokens, own.recording_shift, emitted), k)
        if drafting == APART:
            note_round(sim, view, k, run)
        if drafting == COUNTED:
            accepted += 1 << (run * bits)
        elif drafting != FIXED:
            accepted += run
        if drafting != FIXED and changed:
            own.given = more
        tokens = min(run + 1, own.output_tokens - emitted)
        own.final_tokens = own.prompt_tokens + emitted
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
        view.attained_s += dt
        view.last_run_s, view.last_run_step = now_s, step
        if emitted == own.output_tokens:
            context -= own.prompt_tokens + emitted
            leave(sim, running[i])
        else:
            running[kept], ranks[kept], blocks[kept] = running[i], ranks[i], blocks[i]
            kept += 1
    if kept < sim.rounds:
        for i in range(sim.rounds, sim.in_batch):  # those let in
            running[kept], ranks[kept], blocks[kept] = running[i], ranks[i], blocks[i]
            kept += 1
        sim.in_batch = kept
    sim.context_tokens = context
    if drafting != FIXED:
        sim.step_accepted = accepted


@inlined
def gone(sim: Any, job: int) -> bool:
    """Say whether a job has left."""
    return longs(sim.blocks_at)[job] == sim.pool_at


@inlined
def price(sim: Any, first: int, size: int) -> tuple[int, float]:
    """Return how many do a round in a step, and the seconds it takes."""
    decoding, contexts, most, given = sim.rounds, np.int64(0), np.int64(0), np.int64(0)
    if decoding > 0:
        contexts = sim.context_tokens
    for i in range(first, first + size):
        part = part_at(sim.parts_at, i)
        if part.round:
            decoding += 1
            contexts += context_of(sim, part.job)
            most, given = max(most, np.int64(part.given)), given + part.given
    overhead = step_price(sim, OVERHEAD, sim.rounds + size, 0.0)
    draft = verify = work = context = 0.0
    mixes = sim.mixes and decoding > 0 and decoding < sim.rounds + size
    if decoding > 0:
        context = contexts / decoding
        if sim.recorded or not sim.for_each:  # who looks for drafts does so whether there are any or not
            most, given = sim.drafts, given if sim.recorded else sim.drafts * decoding
        if most > 0:
            draft = step_price(sim, row_of(sim, DRAFT, most), decoding, context)
        if mixes:
            pass  # its chunks are counted below
        elif sim.varies:
            verify = verify_price(sim, decoding, given / decoding, context)
        else:
            verify = step_price(sim, VERIFY, decoding, context)
    else:
        most = sim.drafts
    if decoding < sim.rounds + size:
        work = prefill(sim, first, size, decoding > 0, most > 0)
    if mixes:
        verify = mixed_price(sim, decoding, given / decoding, context)
    sim.draft_s = draft
    return decoding, overhead + draft + verify + work


@inlined
def context_of(sim: Any, job: int) -> int:
    """Return prompt and emitted tokens of a job, also of one that has left."""
    if gone(sim, job):
        return np.int64(ints(sim.prompt_tokens_at)[job]) + ints(sim.output_tokens_at)[job]
    return np.int64(own_of(sim, job).prompt_tokens) + view_of(sim, job).emitted_tokens


@jit
def prefill(sim: Any, first: int, size: int, shared: bool, drafting: bool) -> float:
    """Price the chunks of a step, as far as they have no price together with its rounds."""
    work, mixes = 0.0, sim.mixes and shared
    sim.chunks_tokens = sim.chunks_cached = 0
    for i in range(first, first + size):
        part = part_at(sim.parts_at, i)
        if part.round:
            continue
        tokens, cached = np.int64(part.tokens), np.int64(part.cached)
        sim.chunks_tokens += tokens
        sim.chunks_cached += tokens * cached
        if not mixes:
            work += chunk_price(sim, PREFILL, tokens, cached, shared)
        if drafting:
            work += chunk_price(sim, DRAFT_PREFILL, tokens, cached, shared)
        shared = True
    return work


@inlined
def book(sim: Any, part: Any, dt: float, step: int) -> bool:
    """Book what a step did for one job, and say whether it got anywhere."""
    job = part.job
    own, view = own_of(sim, job), view_of(sim, job)
    own.in_flight_tokens -= part.tokens
    stale = own.stale_tokens > 0
    if stale:
        own.stale_tokens -= part.tokens
    progress, emitted = count(own, view, part), np.int64(0)
    if part.emits:
        emitted = emit(sim, own, view, part, stale)
    view.prefill_left_tokens = view.prefill_left_tokens + emitted if stale else part.left
    count_work(sim, job)
    view.attained_s += dt
    view.last_run_s, view.last_run_step = sim.now_s, step
    if own.ran == 0:
        own.ran = 1
        if own.state == WAITING:
            ints(sim.late_at)[sim.in_late] = job
            sim.in_late += 1
    if view.emitted_tokens == own.output_tokens:
        leave(sim, job)
    return progress


@inlined
def count(own: Any, view: Any, part: Any) -> bool:
    """Count prefill that was done before, and say whether any was new."""
    end = np.int64(own.prompt_tokens) + view.emitted_tokens
    peak = np.int64(own.peak_tokens)
    if not part.round:
        end = min(np.int64(part.cached) + part.tokens, end)
        own.recomputed_tokens += max(np.int64(0), min(end, peak) - part.cached)
    own.peak_tokens = max(peak, end)
    return end > peak or part.emits


@inlined
def emit(sim: Any, own: Any, view: Any, part: Any, stale: bool) -> int:
    """Emit what a job's part brings: a round, a first token, or the token that ends a recomputation."""
    before, drafts = np.int64(view.emitted_tokens), np.int64(part.drafts)
    accepted = np.int64(0)
    if drafts > 0 and not part.padded:
        run = accept_run(octets(own.recording_at), own.recording_tokens, own.recording_shift, before)
        accepted = min(run, drafts)
    if not stale:
        own.computed_tokens -= drafts - accepted
        if sim.asynchronous:
            own.placeholders -= drafts - accepted
    emitted = min(1 + accepted, own.output_tokens - before)
    if part.round:
        if sim.varies:
            sim.step_drafted += drafts
            sim.step_accepted += accepted
            sim.learnt += 1
        if sim.counts_places or sim.counts_drafts:
            note_round(sim, view, drafts, accepted)
        view.rounds += 1
        view.accepted_tokens += emitted - 1
    elif before > 0:
        own.resumes += emitted
    book_tokens(sim, own, view, before, emitted)
    if sim.asynchronous:
        if not stale:
            own.placeholders -= emitted
            own.final_tokens = max(own.final_tokens, own.computed_tokens - own.placeholders)
    else:
        own.drafts = own.given = next_drafts(sim, own, part, before + emitted)
    return emitted


@inlined
def next_drafts(sim: Any, own: Any, part: Any, emitted: int) -> int:
    """Return the drafts of a job's next round: as its recording says, or as was said when this step was composed."""
    if sim.recorded:
        found = octets(own.recording_at - sim.accept_runs_at + sim.drafted_at)
        return accept_run(found, own.recording_tokens, own.recording_shift, emitted)
    return np.int64(part.next_drafts) if sim.varies else sim.draft_tokens


@inlined
def book_tokens(sim: Any, own: Any, view: Any, before: int, emitted: int) -> None:
    """Book emitted tokens and the gap since the last ones."""
    if before == 0:
        own.first_token_s = sim.now_s
    view.emitted_tokens = before + emitted
    if sim.charged:
        longs(sim.client_emitted_at)[own.client] += emitted
    if before > 0:
        gap = sim.now_s - own.last_emit_s
        if not gap <= own.itl_max_s:  # also where there is none yet
            own.itl_max_s = gap
    own.last_emit_s = sim.now_s


@jit
def leave(sim: Any, job: int) -> None:
    """Let a finished job go, and free its memory."""
    if sim.kv_blocks > 0:
        release(sim, job, False)
    if own_of(sim, job).state == WAITING:
        unwait(sim, job)
    dismiss(sim, job, FINISHED, sim.now_s)


@jit
def close_ranks(sim: Any) -> None:
    """Take jobs that have left out of the batch; the others keep their order."""
    numbers, ranks, blocks = ints(sim.running_at), floats(sim.running_rank_at), longs(sim.running_block_at)
    kept = 0
    for i in range(sim.in_batch):
        if not gone(sim, numbers[i]):
            numbers[kept], ranks[kept], blocks[kept] = numbers[i], ranks[i], blocks[i]
            kept += 1
    sim.in_batch = kept
