"""Shortest remaining predicted rounds: srpt that also watches acceptance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.core import CALIBRATION
from lapsbench.policies.registry import policy
from lapsbench.policies.view import rounds_left

if TYPE_CHECKING:
    from lapsbench.policies.view import Job, System


@policy(preemptive=True, source="this project", knows=("predicted length", "observed acceptance", CALIBRATION))
def srpt_accept(job: Job, system: System, prior_rounds: float = 8) -> float:
    """Fewest predicted rounds left: remaining predicted tokens over a shrunken estimate of tokens per round."""
    return rounds_left(job, system, prior_rounds)
