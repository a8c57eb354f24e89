"""Shortest remaining predicted length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.policies.registry import policy

if TYPE_CHECKING:
    from lapsbench.policies.view import Job


@policy(preemptive=True, source="ELIS (arXiv 2505.09142), TRAIL with C = 1", knows=("predicted length",))
def srpt(job: Job) -> float:
    """Fewest predicted output tokens left; a job past its prediction goes first."""
    return job.predicted_tokens - job.emitted_tokens
