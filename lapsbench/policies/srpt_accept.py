"""Shortest remaining predicted rounds: srpt that also watches acceptance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.core import CALIBRATION
from lapsbench.policies.registry import policy
from lapsbench.policies.view import tokens_per_round

if TYPE_CHECKING:
    from lapsbench.policies.view import Job, System


@policy(
    preemptive=True,
    source="this project",
    knows=("predicted length", "observed acceptance", CALIBRATION),
    aliases={"k0": "prior_rounds"},
)
def srpt_accept(job: Job, system: System, prior_rounds: float = 8) -> float:
    """Fewest predicted rounds left: remaining predicted tokens over a shrunken estimate of tokens per round."""
    return (job.predicted_tokens - job.emitted_tokens) / tokens_per_round(job, system, prior_rounds)
