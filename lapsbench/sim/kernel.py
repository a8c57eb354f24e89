"""The step model of DESIGN section 4, compiled: what `sim/reference.py` says, fast.

One kernel for every policy: the policy comes in as a typed first-class function (`binding.RANK_TYPE`), so a new one
compiles alone and this file never again. Nothing per request happens in Python. `advance` runs a bounded number of
steps and returns, so that the caller can show progress and hear Ctrl-C.

What keeps it fast: waiting jobs lie in a heap and are ranked again only when asked for (`Policy.rerank`, reviews); the
batch is a short array; a running job is ranked while its record is in the cache; contexts are summed as integers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import from_dtype, int64, njit

from lapsbench.core import FINISHED, REJECTED
from lapsbench.errors import LapsbenchError
from lapsbench.policies.binding import RANK_TYPE, compiled
from lapsbench.sim.alone import accept_run
from lapsbench.sim.cost import DRAFT, DRAFT_PREFILL, OVERHEAD, PREFILL, VERIFY
from lapsbench.sim.heap import insertion_sort
from lapsbench.sim.lookup import chunk_price, step_price
from lapsbench.sim.memory import floats, hidden_at, ints, job_at, longs, system_at
from lapsbench.sim.queue import ask, lift, rerank, review, wait
from lapsbench.sim.record import Replay
from lapsbench.sim.select import select, select_within_memory, swap_time
from lapsbench.sim.state import DONE, GOING, GONE, NAN_RANK, OVERRUN, SIM, STALLED

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.core import Engine, Outcome, Policy, Workload
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup

STEPS_PER_CALL = 100_000


@njit(cache=True, error_model="numpy", nogil=True)
def advance(rank: Any, sim: Any, steps: int) -> int:
    """Run at most `steps` steps; say whether there is more to do."""
    last = sim.step + steps
    while sim.step < last:
        arrive(rank, sim)
        if sim.in_batch + sim.in_wait == 0:
            if sim.next_request == sim.requests:
                return DONE
            sim.now_s = floats(sim.arrival_s_at)[sim.next_request]
            continue
        if sim.in_due_s + sim.in_due_step > 0:
            review(rank, sim)
        if sim.kv_tokens > 0:
            select_within_memory(rank, sim)
        else:
            select(rank, sim)
        run_step(rank, sim)
        if sim.culprit >= 0:
            return NAN_RANK
        if sim.idle_steps > sim.stall_steps:
            return STALLED
        if sim.now_s > sim.stop_s:
            return OVERRUN
    return GOING


@njit(cache=True, error_model="numpy", nogil=True)
def arrive(rank: Any, sim: Any) -> None:
    """Every arrival with a <= t becomes live, in trace order; one that can never fit is rejected."""
    arrival_s, prompt, output = floats(sim.arrival_s_at), ints(sim.prompt_tokens_at), ints(sim.output_tokens_at)
    while sim.next_request < sim.requests and arrival_s[sim.next_request] <= sim.now_s:
        i = sim.next_request
        sim.next_request += 1
        view = job_at(sim.jobs_at, i)
        view.arrival_s = view.last_run_s = arrival_s[i]
        view.predicted_tokens = floats(sim.predicted_tokens_at)[i]
        view.predicted_rounds = floats(sim.predicted_rounds_at)[i]
        view.predicted_class = ints(sim.predicted_class_at)[i]
        view.prefill_s = floats(sim.prefill_s_at)[i]
        view.last_run_step = sim.step - 1
        view.prompt_tokens = view.prefill_left_tokens = prompt[i]
        if 0 < sim.kv_tokens < np.int64(prompt[i]) + output[i] + sim.draft_tokens:
            hidden_at(sim.hidden_at, i).state = GONE
            hidden_at(sim.hidden_at, i).status = REJECTED
            sim.gone += 1
            continue
        if sim.charged:
            lift(sim, ints(sim.client_at)[i])
        rerank(rank, sim, i)
        wait(sim, i)
        ask(sim, i)


@njit(cache=True, error_model="numpy", nogil=True)
def run_step(rank: Any, sim: Any) -> None:
    """Fill, price and run one step, then rank the batch again."""
    running, k, size = ints(sim.running_at), sim.draft_tokens, sim.in_batch
    context, chunks = 0, 0
    for i in range(size):
        view = job_at(sim.jobs_at, running[i])
        if view.prefill_left_tokens == 0:
            context += np.int64(view.prompt_tokens) + view.emitted_tokens
        else:
            begin_chunk(rank, sim, running[i], chunks)
            chunks += 1
    decoding = size - chunks
    swap_s = swap_time(sim) if sim.in_swap_outs + sim.in_swap_ins > 0 else 0.0
    overhead = step_price(sim, OVERHEAD, size, 0.0)
    draft = verify = 0.0
    if decoding > 0:
        mean = context / decoding
        if k > 0:
            draft = step_price(sim, DRAFT, decoding, mean)
        verify = step_price(sim, VERIFY, decoding, mean)
    work = prefill(sim, chunks, decoding > 0) if chunks > 0 else 0.0
    dt = overhead + draft + verify + work + swap_s
    sim.now_s += dt
    progress = decoding > 0
    if chunks > 0:
        progress |= finish_chunks(sim, chunks)
    emit(rank, sim, dt)
    sim.step += 1
    sim.idle_steps = 0 if progress else sim.idle_steps + 1


@njit(cache=True, error_model="numpy", nogil=True)
def begin_chunk(rank: Any, sim: Any, job: int, chunks: int) -> None:
    """Note a job that prefills in this step; the first time, that is its admission."""
    own, view = hidden_at(sim.hidden_at, job), job_at(sim.jobs_at, job)
    if own.started == 0:
        own.started = 1
        own.admitted_s = sim.now_s
        if sim.charged:
            longs(sim.client_prompt_at)[ints(sim.client_at)[job]] += view.prompt_tokens
    elif not sim.preemptive and sim.kv_tokens == 0:
        rerank(rank, sim, job)  # a running job of a non-preemptive policy: its rank matters only here
    own.chunked = 1
    ints(sim.chunk_at)[chunks] = job
    floats(sim.chunk_rank_at)[chunks] = own.rank


@njit(cache=True, error_model="numpy", nogil=True)
def prefill(sim: Any, chunks: int, shared: bool) -> float:  # noqa: FBT001 - compiled
    """Give out the prefill budget in rank order, and price the chunks."""
    jobs, given = ints(sim.chunk_at), longs(sim.chunk_tokens_at)
    insertion_sort(floats(sim.chunk_rank_at), jobs, chunks)
    budget = sim.prefill_budget if sim.prefill_budget > 0 else np.int64(2**62)
    work = 0.0
    for i in range(chunks):
        tokens = min(np.int64(job_at(sim.jobs_at, jobs[i]).prefill_left_tokens), budget)
        given[i] = tokens
        if tokens == 0:
            continue
        budget -= tokens
        cached = np.int64(hidden_at(sim.hidden_at, jobs[i]).cached_tokens)
        work += chunk_price(sim, PREFILL, tokens, cached, shared)
        if sim.draft_tokens > 0:
            work += chunk_price(sim, DRAFT_PREFILL, tokens, cached, shared)
        shared = True
    return work


@njit(cache=True, error_model="numpy", nogil=True)
def finish_chunks(sim: Any, chunks: int) -> bool:
    """Book the prefilled tokens; a completed prompt emits the first token. Say whether anything was new work."""
    progress = False
    for i in range(chunks):
        job, tokens = ints(sim.chunk_at)[i], longs(sim.chunk_tokens_at)[i]
        if tokens == 0:
            continue
        view, own = job_at(sim.jobs_at, job), hidden_at(sim.hidden_at, job)
        view.prefill_left_tokens -= tokens
        own.cached_tokens += tokens
        if own.cached_tokens > own.peak_tokens:
            own.peak_tokens = own.cached_tokens
            progress = True
        if view.prefill_left_tokens == 0 and view.emitted_tokens == 0:
            view.emitted_tokens = 1
            own.cached_tokens += 1
            own.first_token_s = own.last_emit_s = sim.now_s
            if sim.charged:
                longs(sim.client_emitted_at)[ints(sim.client_at)[job]] += 1
    return progress


@njit(cache=True, error_model="numpy", nogil=True)
def emit(rank: Any, sim: Any, dt: float) -> None:
    """Every job of the batch emits its round's tokens; the finished leave, the others are ranked for the next step."""
    running, ranks, output = ints(sim.running_at), floats(sim.running_rank_at), ints(sim.output_tokens_at)
    system, now_s, k, step = system_at(sim.system_at, 0), sim.now_s, sim.draft_tokens, sim.step
    rank_now, charged = sim.preemptive and not sim.rerank_all, sim.charged
    system.now_s = now_s
    system.step = step + 1
    kept = 0
    for i in range(sim.in_batch):
        job = running[i]
        view, own = job_at(sim.jobs_at, job), hidden_at(sim.hidden_at, job)
        if own.chunked == 1:
            own.chunked = 0
        else:
            tokens = min(accept_run(sim, job, view.emitted_tokens), k) + 1
            tokens = min(tokens, np.int64(output[job]) - view.emitted_tokens)
            view.rounds += 1
            view.accepted_tokens += tokens - 1
            view.emitted_tokens += tokens
            own.cached_tokens = view.prompt_tokens + view.emitted_tokens
            gap = now_s - own.last_emit_s
            if not gap <= own.itl_max_s:  # also where there is none yet
                own.itl_max_s = gap
            own.last_emit_s = now_s
            if charged:
                longs(sim.client_emitted_at)[ints(sim.client_at)[job]] += tokens
        view.attained_s += dt
        view.last_run_s = now_s
        view.last_run_step = step
        if view.emitted_tokens == output[job]:
            own.finished_s = now_s
            own.status = FINISHED
            own.state = GONE
            sim.gone += 1
            continue
        running[kept] = job
        if rank_now:
            view.review_s = np.inf
            view.review_step = np.inf
            value = rank(view, system)
            if math.isnan(value):
                sim.culprit = job
            own.rank = value
            ranks[kept] = value
        kept += 1
    sim.in_batch = kept


# from Python -------------------------------------------------------------------------------------------------------


def replay(
    work: Workload,
    engine: Engine,
    policy: Policy,
    costs: StepCosts,
    setup: Setup,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Replay one policy. `progress` is called now and then with the number of requests that have left.

    Raises:
        LapsbenchError: the policy does not compile, or returned NaN.
    """
    rank = compiled(policy)
    run = Replay(work, engine, policy, costs, setup)
    if not advance.signatures:
        advance.compile((RANK_TYPE, from_dtype(SIM), int64))
        advance.disable_compile()
    state = GOING
    while state == GOING:
        state = advance(rank, run.sim, STEPS_PER_CALL)
        if progress is not None:
            progress(int(run.sim.gone))
    if state == NAN_RANK:
        raise LapsbenchError(
            f"returned NaN for request {run.sim.culprit}", where=f"policy {policy.name!r}", hint="guarding divisions"
        )
    return run.outcome({STALLED: "stalled", OVERRUN: "overrun"}.get(state, ""))
