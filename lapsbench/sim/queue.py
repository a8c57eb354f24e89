"""The waiting jobs: their ranks, the heap they lie in, and the counters of their clients.

Heap entries may be stale: a job that was ranked again has an old entry, a job in the batch may have one. An entry
counts if its job waits and still has that rank. In the names of arguments, `sim` is a `state.SIM` record.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from lapsbench.sim.heap import heapify, pop, push
from lapsbench.sim.memory import floats, hidden_at, ints, job_at, longs, system_at
from lapsbench.sim.state import BUCKET, RUNNING, WAITING


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
    own, system = hidden_at(sim.hidden_at, job), system_at(sim.system_at, 0)
    view = job_at(sim.jobs_at, own.slot)
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
    rerank_all(rank, sim, ints(sim.heap_job_at), floats(sim.heap_rank_at), sim.in_heap)
    heapify(floats(sim.heap_rank_at), ints(sim.heap_job_at), sim.in_heap)


@njit(cache=True, error_model="numpy", nogil=True)
def rerank_running(rank: Any, sim: Any) -> None:
    """Rank the batch, every job of which took part in the last step."""
    running = ints(sim.running_at)
    for i in range(sim.in_batch):
        view = job_at(sim.jobs_at, hidden_at(sim.hidden_at, running[i]).slot)
        view.last_run_s, view.last_run_step = sim.now_s, sim.step - 1
    rerank_all(rank, sim, running, floats(sim.running_rank_at), sim.in_batch)


@njit(cache=True, error_model="numpy", nogil=True)
def rerank_all(rank: Any, sim: Any, numbers: Any, ranks: Any, size: int) -> None:
    """Ask for the ranks of many jobs."""
    jobs, records, system, charged = sim.jobs_at, sim.hidden_at, system_at(sim.system_at, 0), sim.charged
    system.now_s, system.step = sim.now_s, sim.step
    counters = floats(sim.client_now_at)
    if charged:
        for client in range(sim.clients):
            counters[client] = counter(sim, client)
    for i in range(size):
        own = hidden_at(records, numbers[i])
        view = job_at(jobs, own.slot)
        show(own, view)
        if charged:
            view.client_tokens = counters[own.client]
        ranks[i] = own.rank = rank(view, system)
        if math.isnan(own.rank):
            sim.culprit = numbers[i]


@njit(cache=True, error_model="numpy", nogil=True)
def held(sim: Any, job: int) -> int:
    """Return the KV tokens a resident job holds."""
    own = hidden_at(sim.hidden_at, job)
    return np.int64(own.prompt_tokens) + own.emitted_tokens + sim.draft_tokens + 1


@njit(cache=True, error_model="numpy", nogil=True)
def wait(sim: Any, job: int) -> None:
    """Count a job among the waiting; its heap entry is the caller's to add."""
    own = hidden_at(sim.hidden_at, job)
    own.state = WAITING
    sim.in_wait += 1
    if sim.charged:
        longs(sim.client_waiting_at)[own.client] += 1
    if sim.kv_tokens > 0:
        bucket = held(sim, job) >> BUCKET
        ints(sim.needs_at)[bucket] += 1
        sim.lowest_need = min(sim.lowest_need, bucket)


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
