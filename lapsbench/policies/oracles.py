"""Bounds no scheduler can reach: what knowing lengths, and knowing rounds, would be worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.policies.registry import policy

if TYPE_CHECKING:
    from lapsbench.policies.view import Job


@policy(preemptive=True, source="bound", knows=("true length",), oracle="lengths")
def oracle_srpt_tokens(job: Job) -> float:
    """Fewest true output tokens left."""
    return job.predicted_tokens - job.emitted_tokens


@policy(preemptive=True, source="bound", knows=("true length", "true acceptance"), oracle="all")
def oracle_srpt_rounds(job: Job) -> float:
    """Fewest true rounds left, plus one while the prompt is incomplete."""
    return job.predicted_rounds - job.rounds + (1 if job.prefill_left_tokens > 0 else 0)
