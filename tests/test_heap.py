"""The compiled heap and sort against `sorted`."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from lapsbench.sim import heap

heapify, insertion_sort, pop, push = (  # as Python may call them
    njit(part.py_func) for part in (heap.heapify, heap.insertion_sort, heap.pop, heap.push)
)
few = settings(deadline=None, derandomize=True, max_examples=100)
keys = st.sampled_from([-np.inf, -2.5, 0.0, 1.0, 1.0, 7.0, np.inf])
pairs = st.lists(keys, max_size=40).flatmap(
    lambda drawn: st.permutations(range(len(drawn))).map(lambda jobs: list(zip(drawn, jobs, strict=True)))
)


def arrays(drawn, room=0):
    """Lay pairs out as the kernel does: keys beside job numbers, with room to grow."""
    ranks, numbers = np.zeros(len(drawn) + room), np.zeros(len(drawn) + room, np.int32)
    for i, (key, job) in enumerate(drawn):
        ranks[i], numbers[i] = key, job
    return ranks, numbers


def drained(ranks, numbers, size):
    """Pop until empty and return the pairs in that order."""
    found = []
    while size > 0:
        found.append((float(ranks[0]), int(numbers[0])))
        size = pop(ranks, numbers, size)
    return found


@few
@given(pairs)
def test_pairs_pushed_in_any_order_pop_in_order_of_key_then_number(drawn):
    ranks, numbers = arrays([], len(drawn))
    size = 0
    for key, job in drawn:
        size = push(ranks, numbers, size, key, job)
    assert size == len(drawn)
    assert drained(ranks, numbers, size) == sorted(drawn)


@few
@given(pairs)
def test_pairs_in_any_order_are_a_heap_after_heapify(drawn):
    ranks, numbers = arrays(drawn)
    heapify(ranks, numbers, len(drawn))
    assert drained(ranks, numbers, len(drawn)) == sorted(drawn)


@few
@given(pairs, st.lists(st.booleans(), max_size=60))
def test_pushes_and_pops_may_alternate(drawn, pops):
    ranks, numbers = arrays([], len(drawn))
    size, held, popped, expected = 0, [], [], []
    for key, job in drawn:
        size = push(ranks, numbers, size, key, job)
        held.append((key, job))
        if pops and pops.pop():
            popped.append((float(ranks[0]), int(numbers[0])))
            size = pop(ranks, numbers, size)
            expected.append(min(held))
            held.remove(min(held))
    assert popped == expected
    assert drained(ranks, numbers, size) == sorted(held)


@few
@given(pairs)
def test_insertion_sort_sorts_by_key_then_number(drawn):
    ranks, numbers = arrays(drawn)
    insertion_sort(ranks, numbers, len(drawn))
    assert list(zip(ranks.tolist(), numbers.tolist(), strict=True)) == sorted(drawn)


@few
@given(pairs)
def test_insertion_sort_leaves_what_lies_beyond_its_size(drawn):
    ranks, numbers = arrays(drawn)
    half = len(drawn) // 2
    insertion_sort(ranks, numbers, half)
    assert list(zip(ranks[half:].tolist(), numbers[half:].tolist(), strict=True)) == drawn[half:]
