"""First come, first served: what Orca and vLLM run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.policies.registry import policy

if TYPE_CHECKING:
    from lapsbench.policies.view import Job


@policy(preemptive=False, source="Orca (OSDI'22), vLLM", knows=("arrival",))
def fcfs(job: Job) -> float:
    """Arrival order; running jobs keep their place."""
    return job.arrival_s
