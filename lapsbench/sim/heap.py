"""A binary heap of (key, job) pairs in two arrays: the waiting jobs by rank, and the reviews by due time.

Ties break on the job's number, which is arrival order. Entries may be stale; who pops decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from numba import njit

if TYPE_CHECKING:
    from lapsbench.core import Floats, Ints


@njit(cache=True, nogil=True)
def push(keys: Floats, jobs: Ints, size: int, key: float, job: int) -> int:
    """Add a pair and return the new size."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if keys[parent] < key or (keys[parent] == key and jobs[parent] < job):
            break
        keys[place] = keys[parent]
        jobs[place] = jobs[parent]
        place = parent
    keys[place] = key
    jobs[place] = job
    return size + 1


@njit(cache=True, nogil=True)
def sink(keys: Floats, jobs: Ints, size: int, place: int, key: float, job: int) -> None:
    """Put a pair at `place`, or below it where smaller pairs move up."""
    child = 2 * place + 1
    while child < size:
        other = child + 1
        if other < size and (keys[other] < keys[child] or (keys[other] == keys[child] and jobs[other] < jobs[child])):
            child = other
        if key < keys[child] or (key == keys[child] and job < jobs[child]):
            break
        keys[place] = keys[child]
        jobs[place] = jobs[child]
        place = child
        child = 2 * place + 1
    keys[place] = key
    jobs[place] = job


@njit(cache=True, nogil=True)
def pop(keys: Floats, jobs: Ints, size: int) -> int:
    """Drop the smallest pair and return the new size."""
    last = size - 1
    sink(keys, jobs, last, 0, keys[last], jobs[last])
    return last


@njit(cache=True, nogil=True)
def heapify(keys: Floats, jobs: Ints, size: int) -> None:
    """Order `size` pairs lying in any order."""
    for place in range(size // 2 - 1, -1, -1):
        sink(keys, jobs, size, place, keys[place], jobs[place])


@njit(cache=True, nogil=True)
def insertion_sort(keys: Floats, jobs: Ints, size: int) -> None:
    """Sort a few pairs in place, ascending: nearly sorted from step to step, so close to linear."""
    for i in range(1, size):
        key, job = keys[i], jobs[i]
        place = i
        while place > 0 and (key < keys[place - 1] or (key == keys[place - 1] and job < jobs[place - 1])):
            keys[place] = keys[place - 1]
            jobs[place] = jobs[place - 1]
            place -= 1
        keys[place] = key
        jobs[place] = job
