"""Shortest remaining predicted length with limited preemption."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lapsbench.policies.registry import policy

if TYPE_CHECKING:
    from lapsbench.policies.view import Job


@policy(preemptive=True, source="TRAIL (ICLR'25, arXiv 2410.01035)", knows=("predicted length",), aliases={"C": "c"})
def trail(job: Job, c: float = 0.8) -> float:
    """As srpt until a job has emitted more than C times its prediction, then never preempted.

    The rank past the limit is the paper's -infinity; the authors' SGLang port differs there and launches with c=0,
    which is non-preemptive (see docs/policies.md).
    """
    if job.emitted_tokens > c * job.predicted_tokens:
        return -math.inf
    return job.predicted_tokens - job.emitted_tokens
