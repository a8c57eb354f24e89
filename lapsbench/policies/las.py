"""Least attained service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.policies.registry import policy

if TYPE_CHECKING:
    from lapsbench.policies.view import Job


@policy(preemptive=True, source="least attained service (Nuyens & Wierman 2008)", knows=("attained service",))
def las(job: Job) -> float:
    """Least time spent in the batch so far; equals take turns."""
    return job.attained_s
