"""Boost: arrival time minus a head start that shrinks with predicted size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lapsbench.core import CALIBRATION
from lapsbench.policies.registry import policy

if TYPE_CHECKING:
    from lapsbench.policies.view import Job, System


@policy(
    preemptive=True, source="gamma-Boost as in UniBoost (arXiv 2606.18431)", knows=("predicted length", CALIBRATION)
)
def boost(job: Job, system: System, gamma: float = 0.1) -> float:
    """Arrival minus (1/gamma) ln(1/(1 - exp(-gamma s))), s the predicted service time; gamma in 1/s.

    gamma -> 0 is shortest job first, gamma -> infinity is first come, first served.
    """
    service_s = job.prefill_s + job.predicted_tokens / system.mean_tokens_per_round * system.mean_round_s
    return job.arrival_s + math.log(-math.expm1(-gamma * service_s)) / gamma
