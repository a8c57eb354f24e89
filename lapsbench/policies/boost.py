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
    """Arrival minus a head start: long for short predictions, so short jobs pass but none waits for ever.

    The head start is (1/g) ln(1/(1 - exp(-g s))) with s the predicted service time and g = gamma / mean service time of
    the calibration sample. gamma = 0 is shortest job first, gamma -> infinity is first come, first served.
    """
    rate = gamma / system.mean_service_s
    service_s = job.prefill_s + job.predicted_tokens / system.mean_tokens_per_round * system.mean_round_s
    if rate == 0:
        return service_s
    return job.arrival_s + math.log(-math.expm1(-rate * service_s)) / rate
