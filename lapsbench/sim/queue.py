"""The waiting jobs: their ranks, the heap they lie in, the reviews they asked for, and the counters of their clients.

Heap entries may be stale: a job that was ranked again has an old entry, a job in the batch may have one. An entry
counts if its job waits and still has that rank. In the names of arguments, `sim` is a `state.SIM` record.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from lapsbench.sim.heap import heapify, pop, push
from lapsbench.sim.memory import floats, hidden_at, ints, job_at, longs, system_at
from lapsbench.sim.state import BUCKET, RUNNING, WAITING

if TYPE_CHECKING:
    from lapsbench.core import Floats, Ints


@njit(cache=True, error_model="numpy", nogil=True)
def counter(sim: Any, client: int) -> float:
    """Return a client's virtual token counter."""
    prompt, emitted = longs(sim.client_prompt_at)[client], longs(sim.client_emitted_at)[client]
    return floats(sim.client_lift_at)[client] + sim.w_in * prompt + sim.w_out * emitted


@njit(cache=True, error_model="numpy", nogil=True)
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


@njit(cache=True, error_model="numpy", nogil=True)
def rerank(rank: Any, sim: Any, job: int) -> float:
    """Ask the policy for a waiting job's rank, as of the simulated present."""
    own, view, system = hidden_at(sim.hidden_at, job), job_at(sim.jobs_at, job), system_at(sim.system_at, 0)
    system.now_s, system.step = sim.now_s, sim.step
    show(own, view)
    if sim.charged:
        view.client_tokens = counter(sim, own.client)
    own.rank = rank(view, system)
    if math.isnan(own.rank):
        sim.culprit = job
    return own.rank


@njit(cache=True, error_model="numpy", nogil=True)
def show(own: Any, view: Any) -> None:
    """Bring the policy's view of a job up to date: the fields that change."""
    view.attained_s = own.attained_s
    view.rounds = own.rounds
    view.emitted_tokens = own.emitted_tokens
    view.accepted_tokens = max(own.emitted_tokens - own.rounds - 1, 0)
    view.prefill_left_tokens = own.prefill_left_tokens
    view.review_s = np.inf
    view.review_step = np.inf


@njit(cache=True, error_model="numpy", nogil=True)
def rerank_waiting(rank: Any, sim: Any) -> None:
    """Rank every waiting job anew and rebuild the heap."""
    if sim.in_heap > sim.in_wait:
        sim.in_heap = sweep(sim)
    ranks, numbers = floats(sim.heap_rank_at), ints(sim.heap_job_at)
    for i in range(sim.in_heap):
        ranks[i] = rerank(rank, sim, numbers[i])
    heapify(ranks, numbers, sim.in_heap)


@njit(cache=True, error_model="numpy", nogil=True)
def rerank_running(rank: Any, sim: Any) -> None:
    """Rank the batch, every job of which took part in the last step."""
    running, ranks, jobs, records = ints(sim.running_at), floats(sim.running_rank_at), sim.jobs_at, sim.hidden_at
    system, now_s, step, charged = system_at(sim.system_at, 0), sim.now_s, sim.step, sim.charged
    system.now_s, system.step = now_s, step
    for i in range(sim.in_batch):
        own, view = hidden_at(records, running[i]), job_at(jobs, running[i])
        show(own, view)
        view.last_run_s, view.last_run_step = now_s, step - 1
        if charged:
            view.client_tokens = counter(sim, own.client)
        ranks[i] = own.rank = rank(view, system)
        if math.isnan(own.rank):
            sim.culprit = running[i]


@njit(cache=True, error_model="numpy", nogil=True)
def held(sim: Any, job: int) -> int:
    """Return the KV tokens a resident job holds."""
    own = hidden_at(sim.hidden_at, job)
    return np.int64(own.prompt_tokens) + own.emitted_tokens + sim.draft_tokens + 1


@njit(cache=True, error_model="numpy", nogil=True)
def wait(sim: Any, job: int) -> None:
    """Put a job among the waiting: in the heap and in the counts."""
    own = hidden_at(sim.hidden_at, job)
    own.state = WAITING
    sim.in_wait += 1
    if sim.charged:
        longs(sim.client_waiting_at)[own.client] += 1
    if sim.kv_tokens > 0:
        bucket = held(sim, job) >> BUCKET
        ints(sim.needs_at)[bucket] += 1
        sim.lowest_need = min(sim.lowest_need, bucket)
    enheap(sim, job)


@njit(cache=True, error_model="numpy", nogil=True)
def unwait(sim: Any, job: int) -> None:
    """Take a job from the waiting into the batch; its heap entry is the caller's to drop."""
    own = hidden_at(sim.hidden_at, job)
    own.state = RUNNING
    sim.in_wait -= 1
    if sim.charged:
        longs(sim.client_waiting_at)[own.client] -= 1
    if sim.kv_tokens > 0:
        ints(sim.needs_at)[held(sim, job) >> BUCKET] -= 1


@njit(cache=True, error_model="numpy", nogil=True)
def enheap(sim: Any, job: int) -> None:
    """Add a waiting job's present rank to the heap."""
    if sim.in_heap == sim.heap_room:
        sim.in_heap = sweep(sim)
    rank = hidden_at(sim.hidden_at, job).rank
    sim.in_heap = push(floats(sim.heap_rank_at), ints(sim.heap_job_at), sim.in_heap, rank, job)


@njit(cache=True, error_model="numpy", nogil=True)
def fresh(sim: Any) -> bool:
    """Drop stale entries from the top of the heap; say whether a waiting job is there."""
    ranks, numbers = floats(sim.heap_rank_at), ints(sim.heap_job_at)
    while sim.in_heap > 0:
        own = hidden_at(sim.hidden_at, numbers[0])
        if own.state == WAITING and own.rank == ranks[0]:
            return True
        sim.in_heap = pop(ranks, numbers, sim.in_heap)
    return False


@njit(cache=True, error_model="numpy", nogil=True)
def sweep(sim: Any) -> int:
    """Rebuild the heap from its live entries, one per job, and return its size."""
    ranks, numbers = floats(sim.heap_rank_at), ints(sim.heap_job_at)
    kept = 0
    for i in range(sim.in_heap):
        own = hidden_at(sim.hidden_at, numbers[i])
        if own.state == WAITING and own.rank == ranks[i] and own.marked == 0:
            own.marked = 1
            ranks[kept], numbers[kept] = ranks[i], numbers[i]
            kept += 1
    for i in range(kept):
        hidden_at(sim.hidden_at, numbers[i]).marked = 0
    heapify(ranks, numbers, kept)
    return kept


# reviews -----------------------------------------------------------------------------------------------------------


@njit(cache=True, error_model="numpy", nogil=True)
def ask(sim: Any, job: int) -> None:
    """Note when a waiting job wants a new rank."""
    view = job_at(sim.jobs_at, job)
    if view.review_s < np.inf:
        keys, numbers = floats(sim.due_s_at), ints(sim.due_s_job_at)
        if sim.in_due_s == sim.heap_room:
            sim.in_due_s = sweep_due(sim, keys, numbers, sim.in_due_s, False)
        sim.in_due_s = push(keys, numbers, sim.in_due_s, view.review_s, job)
    if view.review_step < np.inf:
        keys, numbers = floats(sim.due_step_at), ints(sim.due_step_job_at)
        if sim.in_due_step == sim.heap_room:
            sim.in_due_step = sweep_due(sim, keys, numbers, sim.in_due_step, True)
        sim.in_due_step = push(keys, numbers, sim.in_due_step, view.review_step, job)


@njit(cache=True, error_model="numpy", nogil=True)
def sweep_due(sim: Any, keys: Floats, numbers: Ints, size: int, by_step: bool) -> int:
    """Rebuild a full review heap from its live entries, one per job, and return its size."""
    kept = 0
    for i in range(size):
        own, view = hidden_at(sim.hidden_at, numbers[i]), job_at(sim.jobs_at, numbers[i])
        wanted = view.review_step if by_step else view.review_s
        if own.state == WAITING and wanted == keys[i] and own.marked == 0:
            own.marked = 1
            keys[kept], numbers[kept] = keys[i], numbers[i]
            kept += 1
    for i in range(kept):
        hidden_at(sim.hidden_at, numbers[i]).marked = 0
    heapify(keys, numbers, kept)
    return kept


@njit(cache=True, error_model="numpy", nogil=True)
def review(rank: Any, sim: Any) -> None:
    """Rank again, once, every waiting job whose review is due by time or by step."""
    stash, due = ints(sim.stash_at), 0
    keys, numbers = floats(sim.due_s_at), ints(sim.due_s_job_at)
    while sim.in_due_s > 0 and keys[0] <= sim.now_s:
        job, key = numbers[0], keys[0]
        sim.in_due_s = pop(keys, numbers, sim.in_due_s)
        own = hidden_at(sim.hidden_at, job)
        if own.state == WAITING and job_at(sim.jobs_at, job).review_s == key and own.marked == 0:
            own.marked = 1
            stash[due] = job
            due += 1
    keys, numbers = floats(sim.due_step_at), ints(sim.due_step_job_at)
    while sim.in_due_step > 0 and keys[0] <= sim.step:
        job, key = numbers[0], keys[0]
        sim.in_due_step = pop(keys, numbers, sim.in_due_step)
        own = hidden_at(sim.hidden_at, job)
        if own.state == WAITING and job_at(sim.jobs_at, job).review_step == key and own.marked == 0:
            own.marked = 1
            stash[due] = job
            due += 1
    for i in range(due):
        own = hidden_at(sim.hidden_at, stash[i])
        own.marked = 0
        before = own.rank
        if rerank(rank, sim, stash[i]) != before:
            enheap(sim, stash[i])
        ask(sim, stash[i])
