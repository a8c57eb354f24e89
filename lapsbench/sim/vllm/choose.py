"""Before vLLM's own walk, what a policy changes: it is asked for ranks, and a preemptive one takes jobs out.

The best `max_batch` of all live jobs may run. A running job that is not among them drops its memory (recompute), or is
parked with it (keep) until the chosen need the room. In the names of arguments, `sim` is a `state.SIM` record.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lapsbench.policies.pointers import floats, ints, longs
from lapsbench.sim.heap import insertion_sort, pop
from lapsbench.sim.ideal.select import highest
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.memory import own_of, view_of
from lapsbench.sim.queue import enheap, fresh, rerank, rerank_running, rerank_waiting, unwait, wait
from lapsbench.sim.state import FCFS, KEEP, WAITING
from lapsbench.sim.timers import schedule
from lapsbench.sim.vllm.blocks import blocks_of, release
from lapsbench.sim.weighing import shielded


@inlined
def choose(rank: Any, sim: Any) -> None:
    """Ask for the ranks that may have changed; under a preemptive policy, let only the best run."""
    sim.in_dropped = 0
    if not sim.fixed and (sim.preemptive or sim.kv_blocks > 0):
        if sim.all_ran or sim.rerank_all:
            rerank_running(rank, sim)
            if sim.in_parts > 0 or not sim.all_ran:
                forget_who_ran(sim)
        else:
            ask_who_ran(rank, sim)
        if sim.in_late > 0:
            ask_late(rank, sim)
    if sim.rerank_all and sim.in_wait > 0 and (sim.preemptive or sim.in_batch < sim.max_batch):
        rerank_waiting(rank, sim)
    if sim.preemptive:
        if any_order(sim):
            sim.unsorted = 1
        else:
            let_the_best_run(sim)


@inlined
def any_order(sim: Any) -> bool:
    """Say whether nothing depends on the order of the batch: nobody is exchanged, and memory is unlimited."""
    if sim.kv_blocks > 0 or sim.asynchronous or sim.in_parked > 0:
        return False
    return not fresh(sim) or floats(sim.heap_rank_at)[0] > highest(floats(sim.running_rank_at), sim.in_batch)


@jit
def forget_who_ran(sim: Any) -> None:
    """Everybody in the batch has been asked."""
    for i in range(sim.in_batch):
        own_of(sim, ints(sim.running_at)[i]).ran = 0


@jit
def ask_who_ran(rank: Any, sim: Any) -> None:
    """Ask again for the rank of every job that has run since; some may not have run, or not be in the batch."""
    numbers, ran = ints(sim.running_at), 0
    for i in range(sim.in_batch):
        ran += to_ask(sim, numbers[i])
    if ran == sim.in_batch:
        rerank_running(rank, sim)
        forget_who_ran(sim)
    elif ran > 0:
        ask_some(rank, sim)


@inlined
def to_ask(sim: Any, job: int) -> bool:
    """Say whether to ask for a running job's rank: it ran, or its review falls due while a step is under way."""
    if own_of(sim, job).ran:
        return True
    view = view_of(sim, job)
    return sim.reviewed and (view.review_s <= sim.now_s or view.review_step <= sim.step)


@jit
def ask_some(rank: Any, sim: Any) -> None:
    """Ask for the ranks of those of the batch that ran."""
    numbers, ranks, some, count = ints(sim.running_at), floats(sim.running_rank_at), ints(sim.stash_at), 0
    for i in range(sim.in_batch):
        if to_ask(sim, numbers[i]):
            own_of(sim, numbers[i]).ran = 1
            some[count] = numbers[i]
            count += 1
    rerank(rank, sim, sim.stash_at, sim.stash_rank_at, count)
    count = 0
    for i in range(sim.in_batch):
        own = own_of(sim, numbers[i])
        if own.ran:
            ranks[i] = own.rank = floats(sim.stash_rank_at)[count]
            own.ran = 0
            count += 1


@jit
def ask_late(rank: Any, sim: Any) -> None:
    """Ask for the ranks of those that ran to the end of a step though they had been taken out."""
    late, kept = ints(sim.late_at), 0
    for i in range(sim.in_late):
        own = own_of(sim, late[i])
        if own.state == WAITING and own.ran:
            own.ran = 0
            late[kept] = late[i]
            kept += 1
    sim.in_late = 0
    rerank(rank, sim, sim.late_at, sim.stash_rank_at, kept)
    for i in range(kept):
        own = own_of(sim, late[i])
        if floats(sim.stash_rank_at)[i] != own.rank and sim.vllms_own != FCFS:
            own.rank = floats(sim.stash_rank_at)[i]
            enheap(sim, late[i])
        schedule(sim, late[i])


@jit
def let_the_best_run(sim: Any) -> None:
    """Sort the batch by rank; exchange jobs where a better one waits, or a parked one may come back."""
    ranks, numbers, last = floats(sim.running_rank_at), ints(sim.running_at), sim.in_batch - 1
    before = ints(sim.before_at)
    for i in range(sim.in_batch):
        before[i] = numbers[i]
    sort(sim)
    if fresh(sim):
        best, other = floats(sim.heap_rank_at)[0], ints(sim.heap_job_at)[0]
        better = last >= 0 and (best < ranks[last] or (best == ranks[last] and other < numbers[last]))
        if better or sim.in_parked > 0:
            exchange(sim)
            note_blocks(sim)


@jit
def sort(sim: Any) -> None:
    """Sort the batch by rank."""
    insertion_sort(floats(sim.running_rank_at), ints(sim.running_at), sim.in_batch)
    note_blocks(sim)
    sim.unsorted = 0


@jit
def exchange(sim: Any) -> None:
    """Give the places away in rank order: to runners, who stay, and to others, who may be let in or come back."""
    numbers, ranks, runners = ints(sim.running_at), floats(sim.running_rank_at), sim.in_batch
    staying, picked = pick(sim)
    sim.context_known = 0
    for i in range(staying):
        own_of(sim, numbers[i]).marked = 1
    for i in range(staying, runners):
        own_of(sim, numbers[i]).rank = ranks[i]
    sim.in_batch = staying
    before, stash = ints(sim.before_at), ints(sim.stash_at)
    for i in range(runners):  # in the order they ran in: that is how their memory is freed
        if not own_of(sim, before[i]).marked:
            give_way(sim, before[i])
    for i in range(staying):
        own_of(sim, numbers[i]).marked = 0
    for i in range(picked):
        if own_of(sim, stash[i]).parked:
            come_back(sim, stash[i])
        else:
            enheap(sim, stash[i])
    insertion_sort(ranks, numbers, sim.in_batch)
    if sim.in_parked > 0:
        make_room(sim, picked)


@jit
def pick(sim: Any) -> tuple[int, int]:
    """Walk the sorted batch and the heap together; return how many runners stay, and how many others lie in `stash`."""
    numbers, ranks, stash = ints(sim.running_at), floats(sim.running_rank_at), ints(sim.stash_at)
    heap_rank, heap_job = floats(sim.heap_rank_at), ints(sim.heap_job_at)
    staying, picked = 0, 0
    while staying + picked < sim.max_batch:
        if not fresh(sim):
            staying = min(sim.in_batch, sim.max_batch - picked)
            break
        if staying == sim.in_batch and sim.in_parked == 0:
            break
        key, other = heap_rank[0], heap_job[0]
        if staying < sim.in_batch and not (
            key < ranks[staying] or (key == ranks[staying] and other < numbers[staying])
        ):
            staying += 1
            continue
        stash[picked] = other
        picked += 1
        own_of(sim, other).marked = 1  # an older entry of it may follow
        sim.in_heap = pop(heap_rank, heap_job, sim.in_heap)
        skip_marked(sim)
    for i in range(picked):
        own_of(sim, stash[i]).marked = 0
    return staying, picked


@inlined
def skip_marked(sim: Any) -> None:
    """Drop entries of jobs that were picked."""
    while sim.in_heap > 0 and own_of(sim, ints(sim.heap_job_at)[0]).marked:
        sim.in_heap = pop(floats(sim.heap_rank_at), ints(sim.heap_job_at), sim.in_heap)


@inlined
def give_way(sim: Any, job: int) -> None:
    """Take a job out of the batch."""
    own = own_of(sim, job)
    note_peak(sim, own)
    own.preemptions += 1
    own.displaced += 1
    own.in_batch = 0
    sim.in_chunk -= own.prefilling
    if sim.on_preempt == KEEP:
        own.parked = 1
        ints(sim.spare_at)[sim.in_parked] = job
        sim.in_parked += 1
    else:
        drop(sim, job)
    wait(sim, job)
    enheap(sim, job)
    schedule(sim, job)


@inlined
def note_peak(sim: Any, own: Any) -> None:
    """Note how far a job has come: rounds among others do not. No step must be under way for it, or being composed."""
    if not sim.asynchronous:
        own.peak_tokens = max(own.peak_tokens, own.final_tokens)


@jit
def come_back(sim: Any, job: int) -> None:
    """Let a parked job run again: it has its memory."""
    parked, own = ints(sim.spare_at), own_of(sim, job)
    own.parked, own.in_batch = 0, 1
    sim.uniform = 0
    sim.in_parked -= 1
    for i in range(sim.in_parked + 1):
        if parked[i] == job:
            parked[i] = parked[sim.in_parked]
            break
    unwait(sim, job)
    sim.in_chunk += own.prefilling
    if shielded(sim, own):
        own.rank = -np.inf
    ints(sim.running_at)[sim.in_batch] = job
    floats(sim.running_rank_at)[sim.in_batch] = own.rank
    sim.in_batch += 1


@jit
def make_room(sim: Any, picked: int) -> None:
    """While the best may lack blocks for a round, let the worst of the parked drop what they hold."""
    if sim.kv_blocks == 0:
        return
    parked, lack = ints(sim.spare_at), np.int64(0)
    for i in range(sim.in_batch):
        lack += lacking(sim, ints(sim.running_at)[i])
    for i in range(picked):
        if own_of(sim, ints(sim.stash_at)[i]).state == WAITING:
            lack += lacking(sim, ints(sim.stash_at)[i])
    while sim.in_parked > 0 and lack > sim.free_blocks:
        worst = 0
        for i in range(1, sim.in_parked):
            key, most = own_of(sim, parked[i]).rank, own_of(sim, parked[worst]).rank
            if key > most or (key == most and parked[i] > parked[worst]):
                worst = i
        job = parked[worst]
        own_of(sim, job).parked = 0
        sim.in_parked -= 1
        parked[worst] = parked[sim.in_parked]
        drop(sim, job)


@inlined
def lacking(sim: Any, job: int) -> int:
    """Return the blocks a job lacks for its context and a whole round."""
    own = own_of(sim, job)
    context = np.int64(own.prompt_tokens) + view_of(sim, job).emitted_tokens
    room = min(context + own.placeholders + sim.draft_tokens + sim.lookahead_tokens, sim.context_limit)
    return max(np.int64(0), blocks_of(sim, room) - own.held_blocks)


@jit
def drop(sim: Any, job: int) -> None:
    """Take a job's memory: it computes its prompt and what it has emitted again."""
    own = own_of(sim, job)
    if sim.kv_blocks > 0:
        release(sim, job, True)
    own.prefilling = own.resumed = 1
    own.computed_tokens = own.drafts = own.placeholders = 0
    own.stale_tokens = own.in_flight_tokens
    if sim.vllms_own == FCFS:  # to the front of the queue
        sim.front -= 1.0
        own.rank = sim.front
    ints(sim.dropped_at)[sim.in_dropped] = job
    sim.in_dropped += 1


@inlined
def note_blocks(sim: Any) -> None:
    """Put the addresses of the batch's blocks in the order of the batch."""
    numbers, blocks, running = ints(sim.running_at), longs(sim.blocks_at), longs(sim.running_block_at)
    for i in range(sim.in_batch):
        running[i] = blocks[numbers[i]]
