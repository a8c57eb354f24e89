"""Learning to rank, with vllm-ltr's starvation rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.policies.registry import policy
from lapsbench.policies.view import tiered

if TYPE_CHECKING:
    from lapsbench.policies.view import Job, System


@policy(preemptive=True, source="vllm-ltr (NeurIPS'24, arXiv 2408.15792)", knows=("predicted length",))
def ltr(job: Job, system: System, starvation_steps: float = 200, quantum_steps: float = 10) -> float:
    """Lowest predicted total length; after 200 idle steps promoted above all until it has run 10 steps.

    scratch[0]: steps left of the promotion.
    """
    if job.scratch[0] > 0:
        if job.last_run_step == system.step - 1:
            job.scratch[0] -= 1
    elif system.step - 1 - job.last_run_step >= starvation_steps:
        job.scratch[0] = quantum_steps
    if job.scratch[0] > 0:
        return tiered(0, job.predicted_tokens)
    job.review_step = job.last_run_step + 1 + starvation_steps
    return tiered(1, job.predicted_tokens)
