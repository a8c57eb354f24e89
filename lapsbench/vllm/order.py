"""Compiled: who is asked again, who comes before whom, who runs. A step's share beside a thousand who wait.

Arrays are the board's, one value per place. What is in order stays in order: a step moves the few that were ranked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.sim.jit import kept

if TYPE_CHECKING:
    from lapsbench.core import Bools, Bytes, Floats, Longs

MOVES = 32
"""Per request that was ranked: more moves than that, and sorting anew is quicker."""


@kept
def due(out: Longs, live: Bools, ran: Bools, review_s: Floats, review_step: Floats, now_s: float, step: int) -> int:
    """Write the places of those to ask again, who ran or whose review is due; return how many."""
    count = 0
    for place in range(len(live)):
        if ran[place] or (live[place] and (review_s[place] <= now_s or review_step[place] <= step)):
            out[count] = place
            count += 1
    return count


@kept
def heard(places: Longs, told: Floats, rank: Floats, moved: Bools) -> bool:
    """Keep the ranks that were told of these places; say whether all are numbers. Those that are none go last."""
    numbers = True
    for i in range(len(places)):
        place, value = places[i], told[i]
        if value != value:  # noqa: PLR0124 - NaN
            numbers, value = False, np.inf
        rank[place] = value
        moved[place] = True
    return numbers


@kept
def arranged(order: Longs, count: int, room: Longs, live: Bools, moved: Bools, rank: Floats, number: Longs) -> int:
    """Put the first `count` places in order of rank, then arrival, without the gone; clear `moved`.

    Those not `moved` are in order already. Returns how many are left; less than 0 where they are not in order,
    because sorting those who moved took too long, and they are ~returned many.
    """
    stay = moves = 0
    for i in range(count):
        place = order[i]
        if live[place] and not moved[place]:
            order[stay] = place
            stay += 1
        elif live[place]:
            room[moves] = place
            moves += 1
        moved[place] = False
    left = MOVES * moves
    for i in range(1, moves):
        place = room[i]
        j = i
        while j > 0 and left > 0 and _before(place, room[j - 1], rank, number):
            room[j] = room[j - 1]
            j -= 1
            left -= 1
        room[j] = place
    kept, i, j = stay + moves, stay - 1, moves - 1
    for to in range(kept - 1, -1, -1):
        if j < 0:
            break
        if i >= 0 and _before(room[j], order[i], rank, number):
            order[to] = order[i]
            i -= 1
        else:
            order[to] = room[j]
            j -= 1
    return kept if left > 0 or not moves else ~kept


@kept
def _before(place: int, other: int, rank: Floats, number: Longs) -> bool:
    if rank[place] != rank[other]:
        return bool(rank[place] < rank[other])
    return bool(number[place] < number[other])


@kept
def exchanged(best: Longs, running: Longs, parked: Bools, state: Bytes, runs: Longs, out: Longs) -> tuple[int, int]:
    """Write who of the best runs or will, being parked, and who runs and must not; return how many are either."""
    for place in running:
        state[place] = 1
    stay = gone = 0
    for place in best:
        if state[place] or parked[place]:
            runs[stay] = place
            stay += 1
            state[place] = 0
    for place in running:
        if state[place]:
            out[gone] = place
            gone += 1
            state[place] = 0
    return stay, gone
