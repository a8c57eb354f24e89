"""How a request becomes a live job, and what is written down when it leaves: the same under every rule set.

In the names of arguments, `sim` is a `state.SIM` record.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lapsbench.core import FINISHED, REJECTED, UNFINISHED
from lapsbench.policies.past import ALL, MOST, UNIT, learn, ratio
from lapsbench.policies.pointers import floats, ints, job_at, longs, octets
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.memory import own_at, own_of, sim_at, view_of
from lapsbench.sim.queue import enheap, lift, rerank, wait
from lapsbench.sim.state import BLOCK_BYTES
from lapsbench.sim.timers import schedule


@inlined
def arrive(rank: Any, sim: Any) -> None:
    """Every arrival with a <= t becomes live, in trace order; one that can never fit is rejected."""
    arrival_s, prompt, output = floats(sim.arrival_s_at), ints(sim.prompt_tokens_at), ints(sim.output_tokens_at)
    while sim.next_request < sim.requests and arrival_s[sim.next_request] <= sim.now_s:
        if sim.in_wait >= sim.wait_most:
            return
        if sim.in_free == 0 and sim.in_use == sim.live_most:
            sim.crowded = 1
            return
        i = sim.next_request
        sim.next_request += 1
        introduce(sim, i)
        own = own_of(sim, i)
        if np.int64(prompt[i]) + output[i] > sim.most_tokens:
            dismiss(sim, i, REJECTED, np.nan)
            continue
        if sim.charged:
            lift(sim, own.client)
        ints(sim.stash_at)[0] = i
        rerank(rank, sim, sim.stash_at, sim.stash_rank_at, 1)
        own.rank = floats(sim.stash_rank_at)[0]
        wait(sim, i)
        enheap(sim, i)
        schedule(sim, i)


@inlined
def introduce(sim: Any, request: int) -> None:
    """Give a new job a block, one that another left behind if there is one, and write what will not change."""
    if sim.in_free > 0:
        sim.in_free -= 1
        block = longs(sim.free_at)[sim.in_free]
    else:
        sim.in_use += 1  # the first is nobody's
        block = sim.pool_at + sim.in_use * BLOCK_BYTES
    longs(sim.blocks_at)[request] = block
    for i in range(BLOCK_BYTES >> 3):
        longs(block)[i] = 0
    view, own = job_at(block, 0), own_at(block, 0)
    view.review_s = view.review_step = np.inf
    view.arrival_s = view.last_run_s = floats(sim.arrival_s_at)[request]
    view.predicted_tokens = floats(sim.predicted_tokens_at)[request]
    view.predicted_rounds = floats(sim.predicted_rounds_at)[request]
    view.predicted_class = ints(sim.predicted_class_at)[request]
    view.prefill_s = floats(sim.prefill_s_at)[request]
    view.priority = ints(sim.priority_at)[request]
    view.category = ints(sim.category_at)[request]
    view.own_tokens_per_round = floats(sim.own_tokens_per_round_at)[request]
    view.past_ratio = ratio(longs(sim.past_at), ints(sim.prompt_bin_at)[request]) if sim.shows_past else 1.0
    view.prompt_tokens = view.prefill_left_tokens = ints(sim.prompt_tokens_at)[request]
    view.last_run_step = sim.step - 1
    own.last_emit_s = own.itl_max_s = own.admitted_s = own.first_token_s = np.nan
    own.prompt_tokens, own.output_tokens = view.prompt_tokens, ints(sim.output_tokens_at)[request]
    own.recording_at = sim.accept_runs_at + longs(sim.recording_start_at)[request]
    own.recording_tokens = ints(sim.recording_tokens_at)[request]
    own.recording_shift = ints(sim.recording_shift_at)[request]
    own.client = ints(sim.client_at)[request]


@inlined
def dismiss(sim: Any, job: int, status: int, finished_s: float) -> None:
    """Write down what became of a job that leaves, and keep its block for another."""
    record(sim, job, status, finished_s)
    if sim.shows_past and status == FINISHED:
        learn_length(sim, job)
    longs(sim.free_at)[sim.in_free] = longs(sim.blocks_at)[job]
    sim.in_free += 1
    longs(sim.blocks_at)[job] = sim.pool_at
    sim.gone += 1


@jit
def learn_length(sim: Any, job: int) -> None:
    """Note how long a finished request was, and had been said to be."""
    length = own_of(sim, job).output_tokens / view_of(sim, job).predicted_tokens
    share = np.int64(min(length, float(MOST)) * UNIT)
    learn(longs(sim.past_at), ints(sim.prompt_bin_at)[job], share)
    learn(longs(sim.past_at), ALL, share)


@jit
def record(sim: Any, job: int, status: int, finished_s: float) -> None:
    """Write down what became of a job."""
    own, view = own_of(sim, job), view_of(sim, job)
    floats(sim.admitted_s_at)[job] = own.admitted_s
    floats(sim.first_token_s_at)[job] = own.first_token_s
    floats(sim.finished_s_at)[job] = finished_s
    floats(sim.itl_max_s_at)[job] = own.itl_max_s
    ints(sim.rounds_at)[job] = view.rounds
    ints(sim.accepted_tokens_at)[job] = view.accepted_tokens
    ints(sim.preemptions_at)[job] = own.preemptions
    longs(sim.recomputed_tokens_at)[job] = own.recomputed_tokens
    ints(sim.resumes_at)[job] = own.resumes
    octets(sim.status_at)[job] = status


@jit
def record_live(at: int) -> int:
    """Write down what became of the jobs that were live when the replay was stopped."""
    sim = sim_at(at, 0)
    for job in range(sim.next_request):
        if longs(sim.blocks_at)[job] != sim.pool_at:
            record(sim, job, UNFINISHED, np.nan)
    return 0
