"""FastServe's skip-join multilevel feedback queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.policies.registry import policy
from lapsbench.policies.view import LEVEL

if TYPE_CHECKING:
    from lapsbench.policies.view import Job, System


@policy(
    preemptive=True,
    source="FastServe (arXiv 2305.05920)",
    knows=("attained service", "prompt length"),
    aliases={"q0": "quantum_s"},
)
def mlfq(job: Job, system: System, quantum_s: float = 0.01, starvation_s: float = 3.0) -> float:
    """Level by attained service, quantum 10 ms doubling; joins below its prefill time; to the top after 3 s idle.

    A queue is a deque: arrivals go to its back, a job that has run goes to its front, as FastServe's code does.
    scratch: 0 level + 1 (0: not queued yet), 1 attained service when it entered the level, 2 order within the level,
    3 the level's quantum.
    """
    if job.scratch[0] == 0:
        level = 0.0
        quantum = quantum_s
        while quantum < job.prefill_s and level < 60.0:
            quantum *= 2.0
            level += 1.0
        job.scratch[0] = level + 1.0
        job.scratch[2] = system.step
        job.scratch[3] = quantum
    elif job.last_run_step == system.step - 1:
        if job.attained_s - job.scratch[1] > job.scratch[3]:
            job.scratch[0] += 1.0
            job.scratch[3] *= 2.0
            job.scratch[1] = job.attained_s
        job.scratch[2] = -system.step
    elif job.scratch[0] > 1.0 and system.now_s >= job.last_run_s + starvation_s:
        job.scratch[0] = 1.0
        job.scratch[1] = job.attained_s
        job.scratch[2] = -system.step
        job.scratch[3] = quantum_s
    if job.scratch[0] > 1.0:
        job.review_s = job.last_run_s + starvation_s
    return job.scratch[0] * LEVEL + job.scratch[2]
