"""Reviews: waiting jobs whose policy wants to rank them again at some time, or at some step.

Policies ask for "so long after it last ran", so dates come in order: a timer is a plain list, adding appends, taking
moves on. At the first date out of order the list becomes a heap (sorted, it is one already) until it is empty again.
Entries may be stale: one counts if its job waits and still wants that date. As lists: mlfq 46 to 36 ns a round.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lapsbench.policies.pointers import floats, ints
from lapsbench.sim.heap import heapify, pop, push
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.memory import own_of, timer_at, view_of
from lapsbench.sim.queue import enheap, rerank
from lapsbench.sim.state import BY_STEP, BY_TIME, HEAP, WAITING


@inlined
def schedule(sim: Any, job: int) -> None:
    """Note when a waiting job wants a new rank."""
    if not sim.reviewed:
        return
    view = view_of(sim, job)
    if view.review_s < np.inf:
        note(sim, BY_TIME, view.review_s, job)
    if view.review_step < np.inf:
        note(sim, BY_STEP, view.review_step, job)


@inlined
def note(sim: Any, kind: int, date: float, job: int) -> None:
    """Add a date to a timer."""
    timer = timer_at(sim.timers_at, kind)
    dates, jobs = floats(timer.date_at), ints(timer.job_at)
    if timer.end == sim.heap_room:
        tidy(sim, kind)
    if timer.first != HEAP and timer.end > timer.first and date < dates[timer.end - 1]:
        tidy(sim, kind)
        timer.first = HEAP
    if timer.first == HEAP:
        timer.end = push(dates, jobs, timer.end, date, job)
    else:
        dates[timer.end], jobs[timer.end] = date, job
        timer.end += 1


@jit
def tidy(sim: Any, kind: int) -> None:
    """Keep the entries that count, one per job, from the beginning of the room."""
    timer = timer_at(sim.timers_at, kind)
    dates, jobs = floats(timer.date_at), ints(timer.job_at)
    kept = 0
    for i in range(max(timer.first, 0), timer.end):
        if mark(sim, kind, dates[i], jobs[i]):
            dates[kept], jobs[kept] = dates[i], jobs[i]
            kept += 1
    for i in range(kept):
        own_of(sim, jobs[i]).marked = 0
    if timer.first == HEAP:
        heapify(dates, jobs, kept)
    else:
        timer.first = 0
    timer.end = kept


@inlined
def mark(sim: Any, kind: int, date: float, job: int) -> bool:
    """Mark a job whose entry counts; not twice."""
    own = own_of(sim, job)
    view = view_of(sim, job)
    wanted = view.review_step if kind == BY_STEP else view.review_s
    if own.state == WAITING and wanted == date and own.marked == 0:
        own.marked = 1
        return True
    return False


@inlined
def review(rank: Any, sim: Any) -> None:
    """Rank again, once, every waiting job whose review is due by time or by step."""
    stash = ints(sim.stash_at)
    due = take(sim, BY_STEP, float(sim.step), take(sim, BY_TIME, sim.now_s, 0))
    if due == 0:
        return
    ranks = floats(sim.stash_rank_at)
    rerank(rank, sim, sim.stash_at, sim.stash_rank_at, due)
    for i in range(due):  # all of them first: a marked job is invisible to `queue.sweep`
        own_of(sim, stash[i]).marked = 0
    for i in range(due):
        own = own_of(sim, stash[i])
        if ranks[i] != own.rank:
            own.rank = ranks[i]
            enheap(sim, stash[i])
        schedule(sim, stash[i])


@inlined
def take(sim: Any, kind: int, present: float, due: int) -> int:
    """Move the jobs due by now from a timer to the stash, marked; return how many lie there."""
    timer, stash = timer_at(sim.timers_at, kind), ints(sim.stash_at)
    dates, jobs = floats(timer.date_at), ints(timer.job_at)
    top = max(timer.first, 0)
    while top < timer.end and dates[top] <= present:
        if mark(sim, kind, dates[top], jobs[top]):
            stash[due] = jobs[top]
            due += 1
        if timer.first == HEAP:
            timer.end = pop(dates, jobs, timer.end)
        else:
            timer.first += 1
            top = timer.first
    if timer.first > 1024 and 2 * timer.first > timer.end:  # stay where the cache is
        for i in range(timer.first, timer.end):
            dates[i - timer.first], jobs[i - timer.first] = dates[i], jobs[i]
        timer.end -= timer.first
        timer.first = top = 0
    if top == timer.end:
        timer.first = timer.end = 0
    return due
