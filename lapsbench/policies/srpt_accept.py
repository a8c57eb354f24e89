"""Shortest remaining predicted rounds: srpt that also watches acceptance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.core import CALIBRATION
from lapsbench.policies.registry import policy
from lapsbench.policies.view import shrunken, tokens_per_round

if TYPE_CHECKING:
    from lapsbench.policies.view import Job, System


@policy(
    preemptive=True,
    source="this project",
    knows=("predicted length", "observed acceptance", CALIBRATION),
    aliases={"k0": "prior_rounds"},
)
def srpt_accept(job: Job, system: System, prior_rounds: float = 8, category: float = 0) -> float:
    """Fewest predicted rounds left: remaining predicted tokens over a shrunken estimate of tokens per round.

    category = 1 shrinks towards the calibration mean of the prompt's category, not of all.
    """
    if category > 0:
        prior = system.category_tokens_per_round[job.category]
        left = job.predicted_tokens - job.emitted_tokens
        return left / shrunken(job.rounds, job.accepted_tokens, prior_rounds, prior)
    return (job.predicted_tokens - job.emitted_tokens) / tokens_per_round(job, system, prior_rounds)
