"""Choosing the batch of a step: the best-ranked live jobs that fit, and what preemption does to the rest.

Two ways to the same choice: without a memory limit only the border between batch and heap moves; with one, the jobs
are walked in order. In the names of arguments, `sim` is a `state.SIM` record.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lapsbench.policies.pointers import floats, ints, longs
from lapsbench.sim.cost import SWAP_IN, SWAP_OUT
from lapsbench.sim.heap import insertion_sort, pop, sink
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.memory import own_of, view_of
from lapsbench.sim.prices import step_price
from lapsbench.sim.queue import enheap, fresh, held, rerank_running, rerank_waiting, unwait, wait
from lapsbench.sim.state import BUCKET, KEEP, RECOMPUTE, SWAP, WAITING
from lapsbench.sim.timers import schedule
from lapsbench.sim.weighing import count_work, unshield


@inlined
def select(rank: Any, sim: Any) -> None:
    """Choose the batch where memory is unlimited: fill free places, then let better jobs displace worse ones."""
    if not sim.fixed and (sim.preemptive or sim.in_chunk > 0):
        rerank_running(rank, sim)
    elif sim.preemptive:
        sim.worst_rank = highest(floats(sim.running_rank_at), sim.in_batch)
    if sim.in_wait == 0:
        return
    if sim.rerank_all and (sim.preemptive or sim.in_batch < sim.max_batch):
        rerank_waiting(rank, sim)
    while sim.in_batch < sim.max_batch and fresh(sim):
        job = ints(sim.heap_job_at)[0]
        sim.in_heap = pop(floats(sim.heap_rank_at), ints(sim.heap_job_at), sim.in_heap)
        unwait(sim, job)
        join(sim, sim.in_batch, job)
        sim.in_batch += 1
    if sim.preemptive and fresh(sim):
        displace(sim)


@jit
def highest(ranks: Any, size: int) -> float:
    """Return the highest of the ranks."""
    worst = -np.inf
    for i in range(size):
        worst = max(worst, ranks[i])
    return worst


@inlined
def displace(sim: Any) -> None:
    """Exchange the worst running jobs for better waiting ones.

    With the batch sorted, the i-th worst runner meets the i-th best waiter until it is no longer worse: the chosen are
    the best of both. A displaced job takes the other's place in the heap at once: it comes up again after the exchange.
    """
    ranks, numbers = floats(sim.running_rank_at), ints(sim.running_at)
    heap_rank, heap_job = floats(sim.heap_rank_at), ints(sim.heap_job_at)
    if heap_rank[0] > sim.worst_rank:
        return
    sort_candidates(sim, heap_rank[0], heap_job[0])
    place = sim.in_batch
    while place > 0 and fresh(sim):
        job, key = numbers[place - 1], ranks[place - 1]
        other, best = heap_job[0], heap_rank[0]
        if not (best < key or (best == key and other < job)):
            break
        place -= 1
        leave(sim, job, key)
        sink(heap_rank, heap_job, sim.in_heap, 0, key, job)  # in the place of `other`, near the top: few moves
        unwait(sim, other)
        join(sim, place, other)
    settle(sim, place)
    note_blocks(sim)


@inlined
def sort_candidates(sim: Any, best: float, other: int) -> None:
    """Move the running jobs that the best waiting one could displace to the end, sorted; nobody asks about the rest."""
    ranks, numbers = floats(sim.running_rank_at), ints(sim.running_at)
    worse_rank, worse = floats(sim.before_rank_at), ints(sim.before_at)
    safe, size = 0, 0
    for i in range(sim.in_batch):
        job, key = numbers[i], ranks[i]
        if best < key or (best == key and other < job):
            worse[size], worse_rank[size] = job, key
            size += 1
        else:
            numbers[safe], ranks[safe] = job, key
            safe += 1
    insertion_sort(worse_rank, worse, size)
    for i in range(size):
        numbers[safe + i], ranks[safe + i] = worse[i], worse_rank[i]


@inlined
def settle(sim: Any, first: int) -> None:
    """Merge the jobs that joined, from `first` on and best last, among the sorted others: the next sort is short."""
    ranks, numbers = floats(sim.running_rank_at), ints(sim.running_at)
    joined_rank, joined = floats(sim.before_rank_at), ints(sim.before_at)
    size = sim.in_batch - first
    for i in range(size):
        joined[i], joined_rank[i] = numbers[first + i], ranks[first + i]
    place, worst, other = sim.in_batch - 1, 0, first - 1
    while worst < size:  # the worst that is left goes last
        if other >= 0 and ranks[other] > joined_rank[worst]:
            ranks[place], numbers[place] = ranks[other], numbers[other]
            other -= 1
        else:
            ranks[place], numbers[place] = joined_rank[worst], joined[worst]
            worst += 1
        place -= 1


@inlined
def note_blocks(sim: Any) -> None:
    """Put the addresses of the batch's blocks in the order of the batch."""
    numbers, blocks, running = ints(sim.running_at), longs(sim.blocks_at), longs(sim.running_block_at)
    for i in range(sim.in_batch):
        running[i] = blocks[numbers[i]]


@inlined
def join(sim: Any, place: int, job: int) -> None:
    """Give a job a place in the batch; its memory is read back if it was swapped out."""
    own = own_of(sim, job)
    ints(sim.running_at)[place] = job
    longs(sim.running_block_at)[place] = longs(sim.blocks_at)[job]
    floats(sim.running_rank_at)[place] = own.rank
    sim.worst_rank = max(sim.worst_rank, own.rank)
    own.resident = 1
    view = view_of(sim, job)
    if view.prefill_left_tokens > 0:
        own.prefilling = 1
        ints(sim.chunk_at)[sim.in_chunk] = job
        sim.in_chunk += 1
    else:
        sim.context_tokens += own.prompt_tokens + view.emitted_tokens
    if own.swapped == 1:
        ints(sim.swap_ins_at)[sim.in_swap_ins] = job
        sim.in_swap_ins += 1


@inlined
def leave(sim: Any, job: int, key: float) -> None:
    """Preempt a running job: it waits again, and its memory goes by the engine's rule. The heap is the caller's."""
    own = own_of(sim, job)
    own.rank = key
    own.preemptions += 1
    own.displaced += 1
    unshield(sim, job)
    if own.prefilling == 1:
        own.prefilling = 0
        jobs = ints(sim.chunk_at)
        sim.in_chunk -= 1
        for i in range(sim.in_chunk + 1):
            if jobs[i] == job:
                jobs[i] = jobs[sim.in_chunk]
                break
    else:
        own.cached_tokens = own.prompt_tokens + view_of(sim, job).emitted_tokens
        sim.context_tokens -= own.cached_tokens
    if sim.on_preempt == RECOMPUTE:
        evict(sim, job)
    elif sim.on_preempt == SWAP:
        own.resident = 0
        if own.cached_tokens > 0:
            own.swapped = 1
            ints(sim.swap_outs_at)[sim.in_swap_outs] = job
            sim.in_swap_outs += 1
    wait(sim, job)
    schedule(sim, job)


@jit
def evict(sim: Any, job: int) -> None:
    """Drop a job's KV: it must prefill its prompt and what it has emitted again."""
    own = own_of(sim, job)
    own.resident = 0
    own.peak_tokens = max(own.peak_tokens, own.cached_tokens)
    own.recomputed_tokens += own.cached_tokens
    own.cached_tokens = 0
    view = view_of(sim, job)
    view.prefill_left_tokens = own.prompt_tokens + view.emitted_tokens
    count_work(sim, job)


@jit
def swap_time(sim: Any) -> float:
    """Price what was swapped out, then in, each in the order of their numbers."""
    total = 0.0
    jobs = ints(sim.swap_outs_at)
    insertion_sort(jobs, jobs, sim.in_swap_outs)
    for i in range(sim.in_swap_outs):
        total += step_price(sim, SWAP_OUT, 1, float(own_of(sim, jobs[i]).cached_tokens))
    jobs = ints(sim.swap_ins_at)
    insertion_sort(jobs, jobs, sim.in_swap_ins)
    for i in range(sim.in_swap_ins):
        own = own_of(sim, jobs[i])
        own.swapped = 0
        total += step_price(sim, SWAP_IN, 1, float(own.cached_tokens))
    sim.in_swap_outs = 0
    sim.in_swap_ins = 0
    return total


# with a memory limit -----------------------------------------------------------------------------------------------


@jit
def select_within_memory(rank: Any, sim: Any) -> None:  # noqa: PLR0912 - one walk over two lists
    """Choose the batch within `kv_tokens`: walk running and waiting jobs in order, take each that fits."""
    if not sim.fixed:
        rerank_running(rank, sim)
    if sim.rerank_all and sim.in_wait > 0:
        rerank_waiting(rank, sim)
    before, before_rank = ints(sim.before_at), floats(sim.before_rank_at)
    running, running_rank = ints(sim.running_at), floats(sim.running_rank_at)
    heap_rank, heap_job, stash = floats(sim.heap_rank_at), ints(sim.heap_job_at), ints(sim.stash_at)
    runners = sim.in_batch
    for i in range(runners):
        before[i], before_rank[i] = running[i], running_rank[i]
    insertion_sort(before_rank, before, runners)
    chosen, used, stashed, seen = 0, 0, 0, 0
    while chosen < sim.max_batch:
        from_batch = seen < runners
        from_heap = someone_may_fit(sim, sim.kv_tokens - used) and fresh(sim)
        if from_batch and from_heap and sim.preemptive:
            key, best = before_rank[seen], heap_rank[0]
            from_batch = key < best or (key == best and before[seen] < heap_job[0])
        if from_batch:
            job = before[seen]
            seen += 1
            if used + held(sim, job) <= sim.kv_tokens:
                used += held(sim, job)
                running[chosen], running_rank[chosen] = job, own_of(sim, job).rank
                chosen += 1
                own_of(sim, job).marked = 1
        elif from_heap:
            job = heap_job[0]
            sim.in_heap = pop(heap_rank, heap_job, sim.in_heap)
            unwait(sim, job)
            if used + held(sim, job) <= sim.kv_tokens:
                used += held(sim, job)
                join(sim, chosen, job)
                chosen += 1
            else:
                stash[stashed] = job
                stashed += 1
        else:
            break
    sim.in_batch = chosen
    for i in range(stashed):
        wait(sim, stash[i])
        enheap(sim, stash[i])
    for i in range(runners):
        if own_of(sim, before[i]).marked == 0:
            leave(sim, before[i], before_rank[i])
            enheap(sim, before[i])
        own_of(sim, before[i]).marked = 0
    note_blocks(sim)
    if sim.on_preempt == KEEP:
        make_room(sim, used, runners)


@jit
def someone_may_fit(sim: Any, tokens: int) -> bool:
    """Say whether a waiting job could need as little as `tokens`: ends the walk when memory is full."""
    if sim.in_wait == 0:
        return False
    while sim.lowest_need < sim.need_buckets and ints(sim.needs_at)[sim.lowest_need] == 0:
        sim.lowest_need += 1
    return sim.lowest_need << BUCKET <= tokens


@jit
def make_room(sim: Any, used: int, runners: int) -> None:
    """Evict the worst-ranked waiting jobs that still hold memory (the spare) until all residents fit."""
    spare, before = ints(sim.spare_at), ints(sim.before_at)
    size, total = 0, used
    for i in range(sim.in_spare + runners):
        job = spare[i] if i < sim.in_spare else before[i - sim.in_spare]
        own = own_of(sim, job)
        if own.state == WAITING and own.resident == 1 and own.marked == 0:
            own.marked = 1
            total += held(sim, job)
            spare[size] = job  # never ahead of what is still to be read
            size += 1
    for i in range(size):
        own_of(sim, spare[i]).marked = 0
    while total > sim.kv_tokens:
        worst = 0
        for i in range(1, size):
            key, most = own_of(sim, spare[i]).rank, own_of(sim, spare[worst]).rank
            if key > most or (key == most and spare[i] > spare[worst]):
                worst = i
        total -= held(sim, spare[worst])
        evict(sim, spare[worst])
        size -= 1
        spare[worst] = spare[size]
    sim.in_spare = size
