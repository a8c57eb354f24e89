"""A heap, four ways wide, of (key, job) pairs in two arrays: the waiting jobs by rank, and the reviews by due time.

Ties break on the job's number, which is arrival order. Entries may be stale; who pops decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.sim.jit import jit

if TYPE_CHECKING:
    from lapsbench.core import Floats, Ints


WAYS = 4
"""Children of a place: half the levels of a binary heap."""


@jit
def push(keys: Floats, jobs: Ints, size: int, key: float, job: int) -> int:
    """Add a pair and return the new size."""
    place = size
    while place > 0:
        parent = (place - 1) // WAYS
        if keys[parent] < key or (keys[parent] == key and jobs[parent] < job):
            break
        keys[place] = keys[parent]
        jobs[place] = jobs[parent]
        place = parent
    keys[place] = key
    jobs[place] = job
    return size + 1


@jit
def sink(keys: Floats, jobs: Ints, size: int, place: int, key: float, job: int) -> None:
    """Put a pair at `place`, or below it where smaller pairs move up.

    The smallest child is found by arithmetic, since no branch predictor guesses it (vtc 4.2 to 3.6 times the
    yardstick), and its key by minima, so that the next comparison need not wait for its place.
    """
    last, first = size - 1, WAYS * place + 1
    while first < size:
        second, third, fourth = min(first + 1, last), min(first + 2, last), min(first + 3, last)
        a, b, c, d = keys[first], keys[second], keys[third], keys[fourth]
        left = first + ((b < a) | ((b == a) & (jobs[second] < jobs[first])))
        right = third + ((d < c) | ((d == c) & (jobs[fourth] < jobs[third])))
        lefts, rights = min(a, b), min(c, d)
        child = left + (right - left) * ((rights < lefts) | ((rights == lefts) & (jobs[right] < jobs[left])))
        least = min(lefts, rights)
        if key < least or (key == least and job < jobs[child]):
            break
        keys[place] = least
        jobs[place] = jobs[child]
        place = child
        first = WAYS * place + 1
    keys[place] = key
    jobs[place] = job


@jit
def pop(keys: Floats, jobs: Ints, size: int) -> int:
    """Drop the smallest pair and return the new size."""
    last = size - 1
    sink(keys, jobs, last, 0, keys[last], jobs[last])
    return last


@jit
def heapify(keys: Floats, jobs: Ints, size: int) -> None:
    """Order `size` pairs lying in any order."""
    for place in range((size - 2) // WAYS, -1, -1):
        sink(keys, jobs, size, place, keys[place], jobs[place])


@jit
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
