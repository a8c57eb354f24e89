"""Composing a step as vLLM's Scheduler does: one budget of tokens, for running jobs first, then for those that wait.

A step is a list of parts, what it does for whom; two of them may be under way. In the names of arguments, `sim` is a
`state.SIM` record.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lapsbench.core import UNLIMITED
from lapsbench.policies.pointers import floats, ints, job_at, longs, octets
from lapsbench.sim.alone import accept_run
from lapsbench.sim.drafting import ask, forget_who_would, show_policy, would_accept
from lapsbench.sim.heap import pop
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.memory import own_at, own_of, part_at, view_of
from lapsbench.sim.queue import enheap, fresh, unwait, wait
from lapsbench.sim.state import PRIORITY, STEPS_UNDER_WAY
from lapsbench.sim.timers import schedule
from lapsbench.sim.vllm.blocks import adopt, blocks_of, found, take
from lapsbench.sim.vllm.choose import choose, drop, note_peak, sort
from lapsbench.sim.weighing import count_work, shielded, unshield

LONGEST = UNLIMITED // 2
"""A context limit beyond this is none."""


@inlined
def compose(rank: Any, control: Any, sim: Any) -> int:
    """Compose a step behind those under way; return for how many jobs it does something."""
    choose(rank, sim)
    sim.first_part, sim.in_parts, sim.rounds = sim.max_batch * (sim.step & 1), 0, 0
    asked_out = sim.in_dropped
    sim.tokens_left = sim.slots_left = sim.batched_tokens
    if steady(sim):
        sim.rounds = sim.in_batch
        sim.tokens_left -= sim.in_batch * (1 + sim.next_drafts)
        sim.slots_left = sim.tokens_left - sim.in_batch * sim.drafting_slots
    else:
        if sim.unsorted:
            sort(sim)
        sim.context_known = 0
        schedule_running(sim)
    if sim.in_wait > 0 and sim.in_batch < sim.max_batch and sim.in_dropped == asked_out:
        schedule_waiting(sim)
    if sim.varies and sim.rounds + sim.in_parts > 0:
        say_drafts(control, sim)
    for i in range(sim.in_parts):
        commit(sim, part_at(sim.parts_at, sim.first_part + i))
    for i in range(sim.in_dropped):
        note_left(sim, ints(sim.dropped_at)[i])
    return sim.rounds + sim.in_parts


@inlined
def steady(sim: Any) -> bool:
    """Say whether everybody in the batch can do a whole round, and see to it that there is memory for it."""
    if sim.asynchronous or sim.in_chunk > 0 or sim.for_each or not sim.uniform:
        return False
    if sim.in_batch * (1 + sim.next_drafts + sim.drafting_slots) > sim.batched_tokens:
        return False
    if sim.context_limit < LONGEST and not grow_all(sim):
        return False
    if not sim.context_known:
        count_context(sim)
    return True


@jit
def count_context(sim: Any) -> None:
    """Add up the contexts of the batch."""
    total, blocks = np.int64(0), longs(sim.running_block_at)
    for i in range(sim.in_batch):
        total += own_at(blocks[i], 0).prompt_tokens + np.int64(job_at(blocks[i], 0).emitted_tokens)
    sim.context_tokens, sim.context_known = total, 1


@jit
def grow_all(sim: Any) -> bool:
    """Give everybody in the batch memory for a whole round, if nobody is too near the limit and there is enough."""
    blocks, need, k = longs(sim.running_block_at), np.int64(0), sim.next_drafts
    for i in range(sim.in_batch):
        own = own_at(blocks[i], 0)
        context = own.prompt_tokens + np.int64(job_at(blocks[i], 0).emitted_tokens)
        if context + k + 1 > sim.context_limit:
            return False
        if sim.kv_blocks > 0 and context + k + sim.lookahead_tokens > own.room_tokens:
            need += needed(sim, own, context)
    if need > sim.free_blocks:
        return False
    i = 0
    while need > 0:
        own = own_at(blocks[i], 0)
        context = own.prompt_tokens + np.int64(job_at(blocks[i], 0).emitted_tokens)
        if context + k + sim.lookahead_tokens > own.room_tokens:
            more = needed(sim, own, context)
            need -= more
            take(sim, own, more)
        i += 1
    return True


@inlined
def needed(sim: Any, own: Any, context: int) -> int:
    """Return the blocks a job lacks for a whole round."""
    lacking = blocks_of(sim, slots_of(sim, context + sim.next_drafts)) - own.held_blocks
    return max(np.int64(0), lacking)


@inlined
def note_left(sim: Any, job: int) -> None:
    """Show the policy what a dropped job has to compute again: not the blocks it would find now."""
    view, own = view_of(sim, job), own_of(sim, job)
    context = np.int64(own.prompt_tokens) + view.emitted_tokens
    again = found(sim, job, context) if own.held_blocks == 0 and not own.in_batch else 0
    view.prefill_left_tokens = context - again * sim.block_tokens
    count_work(sim, job)


@jit
def say_drafts(control: Any, sim: Any) -> None:
    """Fix how many tokens are drafted after this step: by who is in it, prefills included."""
    contexts, size = (sim.context_tokens if sim.rounds > 0 else np.int64(0)), sim.rounds + sim.in_parts
    for i in range(sim.in_parts):
        part = part_at(sim.parts_at, sim.first_part + i)
        contexts += own_of(sim, part.job).prompt_tokens + np.int64(view_of(sim, part.job).emitted_tokens)
        longs(sim.asked_at)[i] = longs(sim.blocks_at)[part.job]
    if sim.wants_runs:
        look_ahead(sim)
    most = ask(control, sim, size, contexts, sim.step)
    for i in range(sim.in_parts):
        part = part_at(sim.parts_at, sim.first_part + i)
        part.next_drafts = np.int64(ints(sim.chosen_at)[i]) if sim.for_each and not sim.recorded else most
    show_policy(sim, sim.next_drafts)
    place = sim.step % STEPS_UNDER_WAY
    longs(sim.sizes_at)[STEPS_UNDER_WAY + place] = sim.next_drafts
    longs(sim.sizes_at)[2 * STEPS_UNDER_WAY + place] = most
    sim.next_drafts = most
    sim.uniform = size == sim.in_batch


@jit
def look_ahead(sim: Any) -> None:
    """Count what the requests of this step would accept after it, as far as it is known what they emit in it."""
    forget_who_would(sim)
    blocks = longs(sim.running_block_at)
    for i in range(sim.rounds):
        after(sim, own_at(blocks[i], 0), job_at(blocks[i], 0), sim.next_drafts)
    for i in range(sim.in_parts):
        part = part_at(sim.parts_at, sim.first_part + i)
        own, view = own_of(sim, part.job), view_of(sim, part.job)
        target = np.int64(own.prompt_tokens) + view.emitted_tokens + own.placeholders
        if np.int64(part.cached) + part.tokens >= target:
            after(sim, own, view, np.int64(part.drafts))


@inlined
def after(sim: Any, own: Any, view: Any, drafts: int) -> None:
    """Count what a request would accept once this many drafts of it have been verified."""
    emitted, runs = np.int64(view.emitted_tokens), octets(own.recording_at)
    run = accept_run(runs, own.recording_tokens, own.recording_shift, emitted)
    emitted += 1 + min(run, drafts)
    if emitted < own.output_tokens:
        would_accept(sim, accept_run(runs, own.recording_tokens, own.recording_shift, emitted), 1)


@jit
def schedule_running(sim: Any) -> None:
    """Let running jobs grow, in their order; one that lacks memory takes it from the last of them."""
    spare, place = sim.drafting_slots, 0
    while place < sim.in_batch and sim.tokens_left > 0 and sim.slots_left > spare:
        job = ints(sim.running_at)[place]
        own = own_of(sim, job)
        context = np.int64(own.prompt_tokens) + view_of(sim, job).emitted_tokens
        if not (own.prefilling or sim.asynchronous):
            own.computed_tokens, own.drafts = context - 1, own.given if sim.varies else sim.draft_tokens
            note_peak(sim, own)
        computed = np.int64(own.computed_tokens)
        expected = context + own.placeholders
        tokens = min(expected + own.drafts - computed, sim.tokens_left, sim.slots_left - spare)
        tokens = min(tokens, sim.context_limit - computed - 1)
        if tokens == 0 or surely_done(own, computed):
            place += 1
            continue
        if sim.kv_blocks > 0:
            need = blocks_of(sim, slots_of(sim, computed + tokens)) - own.held_blocks
            while need > sim.free_blocks:
                victim = victim_of(sim)
                loser = ints(sim.running_at)[victim]
                evict(sim, victim)
                place -= victim < place
                if loser == job:
                    return
            if need > 0:
                take(sim, own, need)
        own.final_tokens = max(np.int64(own.final_tokens), min(computed + tokens, context))
        drafts = max(np.int64(0), min(np.int64(own.drafts), tokens + computed - expected))
        own.drafts = 0
        add(sim, job, computed, tokens, drafts, 0)
        part_at(sim.parts_at, sim.first_part + sim.in_parts - 1).given = own.given
        place += 1


@inlined
def surely_done(own: Any, computed: int) -> bool:
    """Say whether the steps under way emit a job's last token even if every draft of theirs is rejected."""
    return own.placeholders > 0 and computed + 2 - own.placeholders >= np.int64(own.prompt_tokens) + own.output_tokens


@inlined
def slots_of(sim: Any, tokens: int) -> int:
    """Return the KV slots a job needs to have so many tokens computed."""
    return min(tokens + sim.lookahead_tokens, sim.context_limit)


@inlined
def victim_of(sim: Any) -> int:
    """Return the place of the running job that loses its memory: the last, or under `priority` the least urgent."""
    worst = sim.in_batch - 1
    if sim.vllms_own == PRIORITY:
        numbers, worst = ints(sim.running_at), 0
        for i in range(1, sim.in_batch):
            view, most = view_of(sim, numbers[i]), view_of(sim, numbers[worst])
            if view.priority > most.priority or (view.priority == most.priority and view.arrival_s > most.arrival_s):
                worst = i
    return worst


@jit
def evict(sim: Any, place: int) -> None:
    """Take a running job out for lack of memory; what the step was to do for it is undone."""
    numbers, blocks, ranks = ints(sim.running_at), longs(sim.running_block_at), floats(sim.running_rank_at)
    job = numbers[place]
    own = own_of(sim, job)
    own.rank = ranks[place]
    sim.in_batch -= 1
    for i in range(place, sim.in_batch):
        numbers[i], blocks[i], ranks[i] = numbers[i + 1], blocks[i + 1], ranks[i + 1]
    composed = False
    for i in range(sim.in_parts):
        part = part_at(sim.parts_at, sim.first_part + i)
        if part.job == job:
            sim.tokens_left += part.tokens
            sim.slots_left += part.tokens + sim.drafting_slots
            sim.in_parts -= 1
            for j in range(i, sim.in_parts):
                copy_part(sim, sim.first_part + j + 1, sim.first_part + j)
            composed = True
            break
    if not composed:
        note_peak(sim, own)
    own.preemptions += 1
    own.in_batch = 0
    sim.in_chunk -= own.prefilling
    unshield(sim, job)
    drop(sim, job)
    wait(sim, job)
    enheap(sim, job)
    schedule(sim, job)


@jit
def copy_part(sim: Any, source: int, target: int) -> None:
    """Copy a part that is not yet committed."""
    one, other = part_at(sim.parts_at, source), part_at(sim.parts_at, target)
    other.job, other.cached, other.tokens, other.drafts = one.job, one.cached, one.tokens, one.drafts
    other.given, other.padded = one.given, one.padded


@jit
def schedule_waiting(sim: Any) -> None:
    """Admit waiting jobs, in their order, until one does not fit."""
    spare, k, stash, passed = sim.drafting_slots, sim.draft_tokens, ints(sim.stash_at), 0
    runs, prefills = sim.rounds + sim.in_parts > 0, False
    for i in range(sim.in_parts):
        prefills |= own_of(sim, part_at(sim.parts_at, sim.first_part + i).job).prefilling != 0
    while sim.tokens_left > 0 and sim.slots_left > spare and sim.in_batch < sim.max_batch and fresh(sim):
        job = ints(sim.heap_job_at)[0]
        own = own_of(sim, job)
        if own.stale_tokens > 0 or own.parked:  # what it emits is still to come
            stash[passed] = job
            passed += 1
            sim.in_heap = pop(floats(sim.heap_rank_at), ints(sim.heap_job_at), sim.in_heap)
            continue
        context = np.int64(own.prompt_tokens) + view_of(sim, job).emitted_tokens
        row = found(sim, job, context)
        computed = row * sim.block_tokens
        room = min(sim.tokens_left, sim.slots_left - spare)
        tokens = context - computed
        padded = k > 0 and tokens == 1 and not prefills and (runs or computed > 0)
        padded = padded and (sim.recorded or not sim.varies)
        padded = padded and computed + k + 2 <= sim.context_limit
        if padded:
            tokens += k  # a batch of rounds alone runs faster
            if tokens > room:
                break
        tokens = min(tokens, room)
        if sim.kv_blocks > 0:
            most = max(context, slots_of(sim, computed + tokens))
            if max(blocks_of(sim, most), row) > sim.free_blocks:
                break
        sim.in_heap = pop(floats(sim.heap_rank_at), ints(sim.heap_job_at), sim.in_heap)
        if row > 0:
            adopt(sim, job, row)
        if sim.kv_blocks > 0:
            take(sim, own, max(np.int64(0), blocks_of(sim, slots_of(sim, computed + tokens)) - own.held_blocks))
        own.computed_tokens = computed
        own.final_tokens = max(np.int64(own.final_tokens), min(computed + tokens, context))
        let_in(sim, job)
        add(sim, job, computed, tokens, k if padded else 0, padded)
    for i in range(passed):
        enheap(sim, stash[i])


@inlined
def let_in(sim: Any, job: int) -> None:
    """Give a job the next place in the batch; the first time is its admission."""
    own = own_of(sim, job)
    unwait(sim, job)
    own.in_batch = own.prefilling = 1
    sim.in_chunk += 1
    if shielded(sim, own):
        own.rank = -np.inf
    ints(sim.running_at)[sim.in_batch] = job
    longs(sim.running_block_at)[sim.in_batch] = longs(sim.blocks_at)[job]
    floats(sim.running_rank_at)[sim.in_batch] = own.rank
    sim.in_batch += 1
    if own.started == 0:
        own.started = 1
        own.admitted_s = sim.now_s
        if sim.charged:
            longs(sim.client_prompt_at)[own.client] += own.prompt_tokens


@inlined
def add(sim: Any, job: int, cached: int, tokens: int, drafts: int, padded: int) -> None:
    """Put a job's part into the step."""
    part = part_at(sim.parts_at, sim.first_part + sim.in_parts)
    part.job, part.cached, part.tokens, part.drafts, part.padded = job, cached, tokens, drafts, padded
    sim.in_parts += 1
    sim.tokens_left -= tokens
    sim.slots_left -= tokens + sim.drafting_slots


@inlined
def commit(sim: Any, part: Any) -> None:
    """Count a composed part as done, as far as it is sure."""
    own = own_of(sim, part.job)
    target = np.int64(own.prompt_tokens) + view_of(sim, part.job).emitted_tokens + own.placeholders
    own.computed_tokens += part.tokens
    own.in_flight_tokens += part.tokens
    part.emits, part.round = own.computed_tokens >= target, not own.prefilling
    part.left = max(np.int64(0), target - own.computed_tokens)
    if part.emits:
        sim.in_chunk -= own.prefilling
        own.prefilling = 0
        if sim.asynchronous:
            own.placeholders += 1 + part.drafts
            own.drafts = own.given = part.next_drafts if sim.varies else sim.draft_tokens
