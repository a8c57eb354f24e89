"""What a policy may weigh beside its job: who waits, and what preempting costs; and a limit on how often it preempts.

Only for policies that read it. In the names of arguments, `sim` is a `state.SIM` record.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lapsbench.policies.pointers import system_at
from lapsbench.sim.cost import DRAFT_PREFILL, PREFILL, SWAP_IN, SWAP_OUT
from lapsbench.sim.jit import inlined, jit
from lapsbench.sim.memory import own_of, view_of
from lapsbench.sim.prices import chunk_time, step_time
from lapsbench.sim.state import KEEP, RUNNING, SWAP, WAITING

LOWEST = float(np.finfo(np.float64).min)
"""Below this there is only the rank of a job that may not be preempted any more."""
NS = 1e9


@jit
def show_queue(sim: Any) -> None:
    """Show how many wait, and their work."""
    system = system_at(sim.system_at, 0)
    system.waiting, system.backlog_s = sim.in_wait, sim.backlog_ns / NS


@jit
def show_resume(sim: Any, numbers: Any, size: int) -> None:
    """Show what taking each of some jobs out now would cost when it resumes."""
    for i in range(size):
        view, running = view_of(sim, numbers[i]), own_of(sim, numbers[i]).state == RUNNING
        view.resume_s = resume_time(sim, view) if running else 0.0


@jit
def resume_time(sim: Any, view: Any) -> float:
    """Price the swaps of what a running job has cached, or its prefill; full blocks will be found again, if any are."""
    done = np.int64(view.prompt_tokens) + view.emitted_tokens - view.prefill_left_tokens
    if sim.on_preempt == KEEP or done <= 0:
        return 0.0
    if sim.on_preempt == SWAP:
        return step_time(sim, SWAP_OUT, 1, float(done)) + step_time(sim, SWAP_IN, 1, float(done))
    kept = np.int64(0)
    if sim.prefix_cache:
        kept = (done - 1) // sim.block_tokens * sim.block_tokens
    again_s = chunk_time(sim, PREFILL, done - kept, kept)
    if sim.draft_tokens > 0:
        again_s += chunk_time(sim, DRAFT_PREFILL, done - kept, kept)
    return again_s


@inlined
def count_work(sim: Any, job: int) -> None:
    """Count a waiting job's predicted work, and again where it has changed."""
    own = own_of(sim, job)
    if sim.counts_backlog and own.state == WAITING:
        view = view_of(sim, job)
        prompt_s = view.prefill_s * view.prefill_left_tokens / view.prompt_tokens
        left = max(view.predicted_tokens - view.emitted_tokens, 0.0)
        work_ns = np.int64((prompt_s + left * sim.token_s) * NS)
        sim.backlog_ns += work_ns - own.work_ns
        own.work_ns = work_ns


@inlined
def discount_work(sim: Any, own: Any) -> None:
    """A job waits no more."""
    sim.backlog_ns -= own.work_ns
    own.work_ns = 0


@inlined
def shielded(sim: Any, own: Any) -> bool:
    """Say whether a running job may not be preempted by rank any more."""
    return own.displaced >= sim.preempt_most


@jit
def forget_reviews(sim: Any, numbers: Any, size: int) -> None:
    """Each question cancels the last review."""
    for i in range(size):
        view = view_of(sim, numbers[i])
        view.review_s = view.review_step = np.inf


@jit
def shield(sim: Any, numbers: Any, ranks: Any, size: int) -> None:
    """Rank running jobs that were preempted as often as may be before everybody else."""
    for i in range(size):
        own = own_of(sim, numbers[i])
        if own.state == RUNNING and shielded(sim, own):
            ranks[i] = -np.inf
        elif ranks[i] < LOWEST:
            ranks[i] = LOWEST


@inlined
def unshield(sim: Any, job: int) -> None:
    """Memory took a job's place: its policy ranks it among the waiting."""
    if sim.limited and own_of(sim, job).rank < LOWEST:
        view = view_of(sim, job)
        view.review_s = min(view.review_s, sim.now_s)
