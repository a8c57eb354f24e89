"""A step under vLLM's rules, compiled: what `sim/reference/vllm.py` says of it, fast.

In the names of arguments, `sim` is a `state.SIM` record.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lapsbench.core import FINISHED
from lapsbench.policies.pointers import floats, ints, longs, octets
from lapsbench.sim.alone import accept_run
from lapsbench.sim.cost import DRAFT, DRAFT_PREFILL, OVERHEAD, PREFILL, VERIFY
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.jobs import arrive, dismiss
from lapsbench.sim.lookup import chunk_price, step_price
from lapsbench.sim.memory import own_of, part_at, timer_at, view_of
from lapsbench.sim.queue import unwait
from lapsbench.sim.state import BY_STEP, BY_TIME, DONE, GOING, NAN_RANK, OVERRUN, STALLED, WAITING
from lapsbench.sim.timers import review
from lapsbench.sim.vllm.blocks import release
from lapsbench.sim.vllm.compose import compose

STEPS_UNDER_WAY = 2
"""Under async scheduling: the one that runs, and the one composed meanwhile."""


@jit
def advance(rank: Any, sim: Any, steps: int) -> int:
    """Run at most `steps` steps; say whether there is more to do."""
    last = sim.step + steps
    while sim.step < last:
        arrive(rank, sim)
        if sim.in_batch + sim.in_wait == 0 and sim.under_way == 0:
            if sim.next_request == sim.requests:
                return DONE
            sim.now_s = floats(sim.arrival_s_at)[sim.next_request]
            continue
        state = take_step(rank, sim)
        if sim.culprit >= 0:
            return NAN_RANK
        if state != GOING:
            return state
        if sim.idle_steps > sim.stall_steps:
            return STALLED
        if sim.now_s > sim.stop_s:
            return OVERRUN
    return GOING


@inlined
def take_step(rank: Any, sim: Any) -> int:
    """Compose a step; run the oldest when as many are composed as there may be, or nothing more can be."""
    sim.first_part = sim.max_batch * (sim.step % STEPS_UNDER_WAY)
    parts = 0
    sim.in_dropped = 0
    if sim.in_batch + sim.in_wait > 0:
        if timer_at(sim.timers_at, BY_TIME).end + timer_at(sim.timers_at, BY_STEP).end > 0:
            review(rank, sim)
        parts = compose(rank, sim)
    if parts > 0:
        longs(sim.sizes_at)[sim.step % STEPS_UNDER_WAY] = parts
        sim.under_way += 1
        sim.step += 1
        if sim.asynchronous and sim.under_way < STEPS_UNDER_WAY:
            return GOING
    if sim.under_way > 0:
        run_step(sim, sim.step - sim.under_way)
        sim.under_way -= 1
    elif sim.in_dropped == 0:  # nobody can run: time goes on to the next arrival
        if sim.next_request == sim.requests:
            return STALLED
        sim.now_s = floats(sim.arrival_s_at)[sim.next_request]
    return GOING


@inlined
def run_step(sim: Any, step: int) -> None:
    """Let time pass, and book what the step did."""
    first, size = sim.max_batch * (step % STEPS_UNDER_WAY), longs(sim.sizes_at)[step % STEPS_UNDER_WAY]
    began_s = sim.now_s
    sim.now_s += price(sim, first, size)
    progress, ended = False, False
    for i in range(first, first + size):
        part = part_at(sim.parts_at, i)
        if octets(sim.gone_at)[part.job] == 0:  # else: composed before that was known
            progress |= book(sim, part, sim.now_s - began_s, step)
            ended |= octets(sim.gone_at)[part.job] != 0
    if ended:
        close_ranks(sim)
    sim.idle_steps = 0 if progress else sim.idle_steps + 1
