"""The waiting jobs: their ranks, the heap they lie in, and the counters of their clients.

Heap entries may be stale: a job that was ranked again has an old entry, a job in the batch may have one. An entry
counts if its job waits and still has that rank. In the names of arguments, `sim` is a `state.SIM` record.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lapsbench.core import JOB
from lapsbench.policies.pointers import answer, floats, ints, longs, sizeof, system_at
from lapsbench.sim.heap import heapify, pop, push
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.memory import own_of, view_of
from lapsbench.sim.state import BUCKET, RUNNING, WAITING
from lapsbench.sim.weighing import count_work, discount_work, forget_reviews, shield, show_queue, show_resume

JOB_BYTES = sizeof(JOB)


@jit
def counter(sim: Any, client: int) -> float:
    """Return a client's virtual token counter."""
    prompt, emitted = longs(sim.client_prompt_at)[client], longs(sim.client_emitted_at)[client]
    return floats(sim.client_lift_at)[client] + sim.w_in * prompt + sim.w_out * emitted


@jit
def lift(sim: Any, client: int) -> None:
    """Lift a returning client to the lowest counter of those with waiting jobs (VTC, algorithm 2)."""
    waiting = longs(sim.client_waiting_at)
    if waiting[client] > 0:
        return
    least = np.inf
    for other in range(sim.clients):
        if waiting[other] > 0:
            least = min(least, counter(sim, other))
    if least < np.inf:
        floats(sim.client_lift_at)[client] += max(0.0, least - counter(sim, client))


@inlined
def rerank(rank: Any, sim: Any, numbers_at: int, ranks_at: int, size: int) -> None:
    """Ask the policy for the ranks of waiting jobs."""
    numbers, blocks, asked = ints(numbers_at), longs(sim.blocks_at), longs(sim.asked_at)
    for i in range(size):
        asked[i] = blocks[numbers[i]]
    ask(rank, sim, numbers_at, sim.asked_at, ranks_at, size)


@inlined
def ask(rank: Any, sim: Any, numbers_at: int, views_at: int, ranks_at: int, size: int) -> float:
    """Ask the policy for the ranks of some jobs, as of the simulated present; return the highest."""
    if sim.charged:
        charge(sim, ints(numbers_at), size)
    if sim.shows_queue:
        show_queue(sim)
    if sim.shows_resume:
        show_resume(sim, ints(numbers_at), size)
    if sim.limited:
        forget_reviews(sim, ints(numbers_at), size)
    system = system_at(sim.system_at, 0)
    system.now_s, system.step = sim.now_s, sim.step
    worst = answer(rank, views_at, ranks_at, size, sim.system_at)
    if math.isnan(worst):
        blame(sim, ints(numbers_at), floats(ranks_at), size)
    if sim.limited:
        shield(sim, ints(numbers_at), floats(ranks_at), size)
    return worst


@jit
def charge(sim: Any, numbers: Any, size: int) -> None:
    """Show some jobs their clients' counters."""
    counters = floats(sim.client_now_at)
    for client in range(sim.clients):
        counters[client] = counter(sim, client)
    for i in range(size):
        view_of(sim, numbers[i]).client_tokens = counters[own_of(sim, numbers[i]).client]


@jit
def blame(sim: Any, numbers: Any, ranks: Any, size: int) -> None:
    """Find a job whose rank is NaN."""
    for i in range(size):
        if math.isnan(ranks[i]):
            sim.culprit = numbers[i]


@jit
def remember(sim: Any, numbers: Any, ranks: Any, size: int) -> None:
    """Write ranks into the records of their jobs."""
    for i in range(size):
        own_of(sim, numbers[i]).rank = ranks[i]


@jit
def rerank_waiting(rank: Any, sim: Any) -> None:
    """Rank every waiting job anew and rebuild the heap."""
    if sim.in_heap > sim.in_wait:
        sim.in_heap = sweep(sim)
    rerank(rank, sim, sim.heap_job_at, sim.heap_rank_at, sim.in_heap)
    remember(sim, ints(sim.heap_job_at), floats(sim.heap_rank_at), sim.in_heap)
    heapify(floats(sim.heap_rank_at), ints(sim.heap_job_at), sim.in_heap)


@inlined
def rerank_running(rank: Any, sim: Any) -> None:
    """Rank the batch. A running job's rank lies beside its number; only chunks and memory look for it in its record."""
    sim.worst_rank = ask(rank, sim, sim.running_at, sim.running_block_at, sim.running_rank_at, sim.in_batch)
    if sim.in_chunk > 0 or sim.kv_tokens > 0:
        remember(sim, ints(sim.running_at), floats(sim.running_rank_at), sim.in_batch)


@inlined
def held(sim: Any, job: int) -> int:
    """Return the KV tokens a resident job holds."""
    view = view_of(sim, job)
    return np.int64(view.prompt_tokens) + view.emitted_tokens + sim.draft_tokens + 1


@inlined
def wait(sim: Any, job: int) -> None:
    """Count a job among the waiting; its heap entry is the caller's to add."""
    own = own_of(sim, job)
    own.state = WAITING
    sim.in_wait += 1
    count_work(sim, job)
    if sim.charged:
        longs(sim.client_waiting_at)[own.client] += 1
    if sim.kv_tokens > 0:
        bucket = held(sim, job) >> BUCKET
        ints(sim.needs_at)[bucket] += 1
        sim.lowest_need = min(sim.lowest_need, bucket)


@inlined
def unwait(sim: Any, job: int) -> None:
    """Take a job from the waiting into the batch; its heap entry is the caller's to drop."""
    own = own_of(sim, job)
    own.state = RUNNING
    sim.in_wait -= 1
    discount_work(sim, own)
    if sim.charged:
        longs(sim.client_waiting_at)[own.client] -= 1
    if sim.kv_tokens > 0:
        ints(sim.needs_at)[held(sim, job) >> BUCKET] -= 1


@inlined
def enheap(sim: Any, job: int) -> None:
    """Add a waiting job's present rank to the heap."""
    if sim.in_heap > 2 * sim.in_wait + 64:  # mostly stale: a heap that outgrows the cache doubles what mlfq costs
        sim.in_heap = sweep(sim)
    rank = own_of(sim, job).rank
    sim.in_heap = push(floats(sim.heap_rank_at), ints(sim.heap_job_at), sim.in_heap, rank, job)


@inlined
def fresh(sim: Any) -> bool:
    """Drop stale entries from the top of the heap; say whether a waiting job is there."""
    ranks, numbers = floats(sim.heap_rank_at), ints(sim.heap_job_at)
    while sim.in_heap > 0:
        own = own_of(sim, numbers[0])
        if own.state == WAITING and own.rank == ranks[0]:
            return True
        sim.in_heap = pop(ranks, numbers, sim.in_heap)
    return False


@jit
def sweep(sim: Any) -> int:
    """Rebuild the heap from its live entries, one per job, and return its size."""
    ranks, numbers = floats(sim.heap_rank_at), ints(sim.heap_job_at)
    kept = 0
    for i in range(sim.in_heap):
        own = own_of(sim, numbers[i])
        if own.state == WAITING and own.rank == ranks[i] and own.marked == 0:
            own.marked = 1
            ranks[kept], numbers[kept] = ranks[i], numbers[i]
            kept += 1
    for i in range(kept):
        own_of(sim, numbers[i]).marked = 0
    heapify(ranks, numbers, kept)
    return kept
