"""vLLM's memory: blocks, and which of a preempted request's can still be found.

A free block without a name (see `reference/blocks.py`) is like any other: these are only counted, and taken first. The
named ones wait in the order they were freed. Those of a finished request nobody looks for: they are one entry with a
count. Those of a preempted one are an entry each, listed by (request, place), the one named first in front.
In the names of arguments, `sim` is a `state.SIM` record.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lapsbench.policies.pointers import ints, longs
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.memory import own_of
from lapsbench.sim.state import NONE

PLACE_BITS = 28
"""A listing's key is the request's number and, in so many bits, the place of the block."""
SCATTER = 0x1E3779B97F4A7C15
"""Odd, and its bits look like chance: multiplied by it, keys that lie together do not."""


@inlined
def blocks_of(sim: Any, tokens: int) -> int:
    """Return how many blocks hold so many tokens."""
    return (tokens + sim.block_tokens - 1) // sim.block_tokens


@inlined
def take(sim: Any, own: Any, count: int) -> None:
    """Give a job blocks; the caller has seen that there are enough."""
    own.held_blocks += count
    own.room_tokens = own.held_blocks * sim.block_tokens
    sim.free_blocks -= count
    nameless = min(count, sim.nameless_blocks)
    sim.nameless_blocks -= nameless
    if nameless < count:
        forget(sim, count - nameless)


@jit
def forget(sim: Any, count: int) -> None:
    """Take the blocks that were freed longest ago from those who could find them."""
    while count > 0:
        entry = sim.oldest
        if ints(sim.entry_owner_at)[entry] != NONE:
            delist(sim, entry)
            unlink(sim, entry)
            retire(sim, entry)
            count -= 1
            continue
        counts = ints(sim.entry_place_at)
        gone: int = min(count, int(counts[entry]))
        counts[entry] -= gone
        count -= gone
        if counts[entry] == 0:
            unlink(sim, entry)
            retire(sim, entry)


@jit
def release(sim: Any, job: int, resumes: bool) -> None:
    """Take back all a job holds. If it resumes, what it may find is listed; else what it held is an entry of nobody."""
    own = own_of(sim, job)
    sim.free_blocks += own.held_blocks
    named = np.int64(own.final_tokens) // sim.block_tokens if sim.prefix_cache else 0
    sim.nameless_blocks += own.held_blocks - named
    own.held_blocks = own.room_tokens = own.final_tokens = 0
    if named == 0:
        return
    if not resumes:
        for place in range(own.adopted_blocks):  # their entries are still listed, though in no queue
            entry = held_entry(sim, job, place)
            delist(sim, entry)
            retire(sim, entry)
        entry = fresh_entry(sim)
        ints(sim.entry_owner_at)[entry], ints(sim.entry_place_at)[entry] = NONE, named
        append(sim, entry)
    else:
        for place in range(named - 1, -1, -1):
            entry = held_entry(sim, job, place) if place < own.adopted_blocks else enlist(sim, job, place)
            append(sim, entry)
    own.adopted_blocks = 0


@jit
def found(sim: Any, job: int, context: int) -> int:
    """Count the blocks that a waiting job finds again: an unbroken row, never its last token, one less under EAGLE."""
    own = own_of(sim, job)
    if not (sim.prefix_cache and own.resumed):
        return 0
    most, count = (context - 1) // sim.block_tokens, np.int64(0)
    if sim.kv_blocks == 0:
        count = min(most, np.int64(own.final_tokens) // sim.block_tokens)
    else:
        while count < most and head_of(sim, job, count) != NONE:
            count += 1
    return count - 1 if sim.drops_block and count > 0 else count


@jit
def adopt(sim: Any, job: int, count: int) -> None:
    """Give a job the blocks of its own that it has found."""
    own = own_of(sim, job)
    if sim.kv_blocks == 0:
        return
    sim.free_blocks -= count
    own.held_blocks = own.adopted_blocks = count
    own.room_tokens = count * sim.block_tokens
    for place in range(count):
        unlink(sim, head_of(sim, job, place))


# the queue of those freed, oldest first ----------------------------------------------------------------------------


@inlined
def fresh_entry(sim: Any) -> int:
    """Return an entry that is not in use."""
    if sim.spare_entry != NONE:
        entry = sim.spare_entry
        sim.spare_entry = ints(sim.entry_after_at)[entry]
        return entry
    sim.entries += 1
    return sim.entries - 1


@inlined
def retire(sim: Any, entry: int) -> None:
    """Keep an entry for another use."""
    ints(sim.entry_after_at)[entry] = sim.spare_entry
    sim.spare_entry = entry


@inlined
def append(sim: Any, entry: int) -> None:
    """Put an entry at the end of the queue."""
    before, after = ints(sim.entry_before_at), ints(sim.entry_after_at)
    before[entry], after[entry] = sim.newest, NONE
    if sim.newest == NONE:
        sim.oldest = entry
    else:
        after[sim.newest] = entry
    sim.newest = entry


@inlined
def unlink(sim: Any, entry: int) -> None:
    """Take an entry out of the queue."""
    before, after = ints(sim.entry_before_at), ints(sim.entry_after_at)
    earlier, later = before[entry], after[entry]
    if earlier == NONE:
        sim.oldest = later
    else:
        after[earlier] = later
    if later == NONE:
        sim.newest = earlier
    else:
        before[later] = earlier
    before[entry] = HELD


HELD = -2
"""In place of the entry before: a job holds the block."""

# who is listed where: open addressing, a chain of the entries of one name in each place -----------------------------


@inlined
def key_of(job: int, place: int) -> int:
    """Return the key of a request's block; 0 is no key."""
    return ((np.int64(job) << PLACE_BITS) | np.int64(place)) + 1


@inlined
def home_of(sim: Any, key: int) -> int:
    """Return where a key should be."""
    return ((key * SCATTER) >> 24) & sim.listing_mask


@inlined
def slot_of(sim: Any, key: int) -> int:
    """Return where a key is, or the empty slot where it would be."""
    keys = longs(sim.listing_key_at)
    slot = home_of(sim, key)
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & sim.listing_mask
    return slot


@inlined
def head_of(sim: Any, job: int, place: int) -> int:
    """Return the entry of the block named first among those of this name, or NONE."""
    slot = slot_of(sim, key_of(job, place))
    return ints(sim.listing_entry_at)[slot] if longs(sim.listing_key_at)[slot] != 0 else NONE


@inlined
def held_entry(sim: Any, job: int, place: int) -> int:
    """Return the entry of the adopted block of this name."""
    entry = head_of(sim, job, place)
    while ints(sim.entry_before_at)[entry] != HELD:
        entry = ints(sim.entry_twin_at)[entry]
    return entry


@jit
def enlist(sim: Any, job: int, place: int) -> int:
    """List a block under its name, behind others of that name; return its entry."""
    entry = fresh_entry(sim)
    ints(sim.entry_owner_at)[entry], ints(sim.entry_place_at)[entry] = job, place
    twins = ints(sim.entry_twin_at)
    twins[entry] = NONE
    key = key_of(job, place)
    slot = slot_of(sim, key)
    if longs(sim.listing_key_at)[slot] == 0:
        longs(sim.listing_key_at)[slot], ints(sim.listing_entry_at)[slot] = key, entry
    else:
        last = ints(sim.listing_entry_at)[slot]
        while twins[last] != NONE:
            last = twins[last]
        twins[last] = entry
    return entry


@jit
def delist(sim: Any, entry: int) -> None:
    """Strike an entry from the list."""
    twins, heads = ints(sim.entry_twin_at), ints(sim.listing_entry_at)
    slot = slot_of(sim, key_of(ints(sim.entry_owner_at)[entry], ints(sim.entry_place_at)[entry]))
    if heads[slot] != entry:
        other = heads[slot]
        while twins[other] != entry:
            other = twins[other]
        twins[other] = twins[entry]
    elif twins[entry] != NONE:
        heads[slot] = twins[entry]
    else:
        empty(sim, slot)


@inlined
def empty(sim: Any, slot: int) -> None:
    """Empty a slot, and move up what only stands behind it because it was taken."""
    keys, heads, mask = longs(sim.listing_key_at), ints(sim.listing_entry_at), sim.listing_mask
    other = slot
    while True:
        other = (other + 1) & mask
        if keys[other] == 0:
            break
        if ((other - home_of(sim, keys[other])) & mask) >= ((other - slot) & mask):
            keys[slot], heads[slot] = keys[other], heads[other]
            slot = other
    keys[slot] = 0
