"""vLLM's `--scheduling-policy priority`: the priority each request comes with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.policies.registry import policy

if TYPE_CHECKING:
    from lapsbench.policies.view import Job


@policy(preemptive=False, source="vLLM", knows=("priority",))
def priority(job: Job) -> float:
    """Lowest priority number first, as the trace gives it; running jobs keep their place while the memory lasts."""
    return float(job.priority)
