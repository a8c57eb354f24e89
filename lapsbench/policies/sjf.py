"""Shortest job first on predicted output length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.policies.registry import policy

if TYPE_CHECKING:
    from lapsbench.policies.view import Job


@policy(preemptive=False, source="SSJF (arXiv 2404.08509), S3 (2306.06000)", knows=("predicted length",))
def sjf(job: Job) -> float:
    """Fewest predicted output tokens; running jobs keep their place."""
    return job.predicted_tokens
