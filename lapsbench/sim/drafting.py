"""How many tokens a step drafts, compiled: a controller, asked, and what it is told of rounds that have ended.

Same arithmetic, in the same order, as the twin's. In the names of arguments, `sim` is a `state.SIM` record.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lapsbench.core import TALLY
from lapsbench.policies.pointers import answer, floats, ints, longs, step_at, system_at
from lapsbench.sim.cost import BY_DRAFTS, VERIFY
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.prices import step_price

COUNTS = len(TALLY)
FIXED, ALIKE, COUNTED, APART = range(4)
"""Loops over rounds, each with no more in it than it needs: one that could do all would take half as long again."""


@inlined
def row_of(sim: Any, component: int, drafts: int) -> int:
    """Return where the times of DRAFT or VERIFY at so many drafts are."""
    if not sim.varies:
        return component
    return BY_DRAFTS + 2 * drafts + (1 if component == VERIFY else 0)


@inlined
def verify_price(sim: Any, batch: int, mean: float, context: float) -> float:
    """Price verification; between whole numbers of drafts on a line."""
    whole = np.int64(mean)
    below = step_price(sim, row_of(sim, VERIFY, whole), batch, context)
    if mean == whole:
        return below
    above = step_price(sim, row_of(sim, VERIFY, whole + 1), batch, context)
    return below + (mean - whole) * (above - below)


@inlined
def scheduled(sim: Any, batch: int, context: float) -> int:
    """Return what the schedule says; without one, the most."""
    if sim.bands == 0:
        return sim.draft_tokens
    edges, band = longs(sim.schedule_edges_at), sim.band
    while band > 0 and edges[band] > context:
        band -= 1
    while band < sim.bands - 1 and edges[band + 1] <= context:
        band += 1
    sim.band = band
    return np.int64(ints(sim.schedule_drafts_at)[batch * sim.bands + band])


@jit
def ask(control: Any, sim: Any, batch: int, contexts: int, number: int) -> int:
    """Ask for the drafts of `batch` requests; `sim.asked_at` lists them where each is asked for. Return the most."""
    if sim.by_schedule:
        return scheduled(sim, batch, contexts / batch)
    view, context = step_at(sim.step_view_at, 0), contexts / batch
    view.now_s, view.number, view.batch, view.context_tokens = sim.now_s, number, batch, context
    view.scheduled = scheduled(sim, batch, context)
    if sim.wants_costs:
        by_drafts(sim, batch, context)
    most = answer(control, sim.asked_at, sim.chosen_at, batch, sim.step_view_at)
    if math.isnan(most):
        sim.culprit, most = sim.requests, 0.0
    view.rounds = view.accepted_tokens = 0
    view.draft_tokens = np.int64(most)
    return np.int64(most)


@jit
def mean_of(sim: Any, count: int) -> float:
    """Return the mean of what was chosen for each."""
    total = np.int64(0)
    for i in range(count):
        total += ints(sim.chosen_at)[i]
    return total / count


@inlined
def show_policy(sim: Any, drafts: int) -> None:
    """Show the policy what the step drafts."""
    system_at(sim.system_at, 0).draft_tokens = drafts


@jit
def by_drafts(sim: Any, batch: int, context: float) -> None:
    """Write what so many rounds cost with 0 drafts, with 1, and so on; no look-ups of a step."""
    cost_s, knots, count = step_at(sim.step_view_at, 0).cost_s, floats(sim.context_at), sim.draft_tokens + 1
    left, fraction = np.int64(0), 0.0
    if sim.contexts > 1 and context > knots[0]:
        left = sim.contexts - 2
        while left > 0 and knots[left] > context:
            left -= 1
        fraction = (context - knots[left]) / (knots[left + 1] - knots[left])
    times = floats(sim.round_s_at + 8 * count * (batch * sim.contexts + left))
    more = count if sim.contexts > 1 else 0
    for drafts in range(count):
        below = times[drafts]
        cost_s[drafts] = max(0.0, below + fraction * (times[drafts + more] - below))


@inlined
def would_accept(sim: Any, run: int, more: int) -> None:
    """Count a request that would accept so many drafts."""
    counts = step_at(sim.step_view_at, 0).would_accept
    for j in range(run + 1):
        counts[j] += more


@jit
def forget_who_would(sim: Any) -> None:
    """Begin to count anew."""
    counts = step_at(sim.step_view_at, 0).would_accept
    for j in range(sim.draft_tokens + 1):
        counts[j] = 0.0


@inlined
def note_round(sim: Any, view: Any, drafts: int, accepted: int) -> None:
    """Note a round that has ended, where somebody reads it: so many drafts were verified, so many accepted."""
    if sim.counts_places:
        note_places(sim, drafts, accepted)
    if sim.counts_drafts:
        view.tried_tokens += min(accepted + 1, drafts)
        view.drafted_tokens += drafts


@inlined
def note_places(sim: Any, drafts: int, accepted: int) -> None:
    """Note a round by the place of the drafts that were judged."""
    step, judged = step_at(sim.step_view_at, 0), min(accepted + 1, drafts)
    step.tried[0] += judged
    step.passed[0] += accepted
    for j in range(1, judged + 1):
        step.tried[j] += 1.0
        if j <= accepted:
            step.passed[j] += 1.0


@inlined
def tally(sim: Any, decoding: int, rounds: int, draft_s: float, dt: float) -> None:
    """Count a step that has ended by how many did a round in it, and show the controller what came of its rounds.

    Only where drafts vary: with a fixed k this was a tenth of a replay.
    """
    row = floats(sim.tally_at + decoding * 8 * COUNTS)
    row[0] += 1.0
    row[1] += sim.step_drafted
    row[2] += sim.step_accepted
    row[3] += draft_s
    row[4] += dt
    if decoding > 0:
        mean = sim.drafts
        if sim.step_drafted != decoding * mean:  # a division takes as long as the rest
            mean = (2 * np.int64(sim.step_drafted) + decoding) // (2 * decoding)
        floats(sim.tally_s_at)[decoding * (sim.draft_tokens + 1) + mean] += dt
    step = step_at(sim.step_view_at, 0)
    step.rounds += rounds
    step.accepted_tokens += sim.step_accepted


@inlined
def bits_of(drafts: int) -> int:
    """Return how wide a count of rounds is where those of every run of up to so many drafts share one number."""
    return 12 if drafts <= 4 else 7


@inlined
def countable(drafts: int, rounds: int) -> bool:
    """Say whether one number holds the counts of so many rounds: adding to counts in memory takes 0.7 ns a round."""
    return drafts <= 8 and rounds < 1 << bits_of(drafts)


@jit
def give_all(sim: Any, rounds: int) -> None:
    """Give each round the drafts of the step, as if it had been asked for."""
    for i in range(rounds):
        ints(sim.chosen_at)[i] = sim.drafts


@jit
def fold(sim: Any, counts: int) -> int:
    """Note rounds, counted in one number by how many drafts each accepted; return how many were accepted in all."""
    step, drafts, bits = step_at(sim.step_view_at, 0), sim.drafts, bits_of(sim.drafts)
    full = (1 << bits) - 1
    tried = passed = np.int64(0)
    reached = (counts >> (bits * drafts)) & full
    for place in range(drafts, 0, -1):
        step.passed[place] += reached
        passed += reached
        reached += (counts >> (bits * (place - 1))) & full  # those who accepted all before it
        step.tried[place] += reached
        tried += reached
    step.tried[0] += tried
    step.passed[0] += passed
    return passed
