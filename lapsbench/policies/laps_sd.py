"""LAPS-SD, reconstructed: multilevel queue until a job's acceptance is stable, then shortest estimated remaining time.

Known from the paper: the queues, the two states, preemption across queues, prediction only at stability. Its constants
are not public: every number below is ours, and docs/policies.md says so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lapsbench.core import CALIBRATION
from lapsbench.policies.registry import policy
from lapsbench.policies.view import deviation, tiered, tokens_per_round

if TYPE_CHECKING:
    from lapsbench.policies.view import Job, System

MEANS = 5  # scratch[5:] holds the last `window` running means, as a ring


@policy(
    preemptive=True,
    source="LAPS-SD (IJCAI'25, arXiv 2505.17074), constants ours",
    knows=("attained service", "observed acceptance", "predicted length once stable", CALIBRATION),
    aliases={"K": "queues", "q0": "quantum_s", "W": "window", "k0": "prior_rounds"},
)
def laps_sd(
    job: Job,
    system: System,
    queues: float = 8,
    quantum_s: float = 0,
    growth: float = 2,
    window: float = 8,
    eps: float = 0.05,
    prior_rounds: float = 8,
) -> float:
    """Least attained service in queues; once acceptance is stable, by estimated remaining time.

    quantum_s = 0 takes the 20th percentile of the calibration sample's service time. Stable: standard deviation over
    mean of the last `window` (at most 32) running means of tokens per round is below eps; sticky. With window = 0 no
    job is ever non-perceptible, nothing is left for the queues to separate, and there is one: the rule is srpt-accept.
    scratch: 0 perceptible, 1 rounds seen, 2 queue, 3 and 4 service at which it begins and ends.
    """
    size = int(min(window, 32))
    if job.scratch[0] == 0:
        if job.rounds > job.scratch[1]:
            job.scratch[1] = job.rounds
            if size > 0:
                job.scratch[MEANS + job.rounds % size] = (job.rounds + job.accepted_tokens) / job.rounds
        if size == 0 or (job.rounds >= size and deviation(job.scratch, MEANS, size) < eps):
            job.scratch[0] = 1.0
    perceptible = job.scratch[0] > 0
    tokens_left = job.predicted_tokens - job.emitted_tokens
    if size == 0:
        return tokens_left / tokens_per_round(job, system, prior_rounds)
    left = max(tokens_left, 1.0) / tokens_per_round(job, system, prior_rounds) if perceptible else 0.0
    service_s = job.attained_s + left * system.mean_round_s
    threshold_s = quantum_s if quantum_s > 0 else system.service_p20_s
    if not job.scratch[3] <= service_s < job.scratch[4]:  # it has left its queue; a search each time costs 4 ns a round
        queue, begin_s = 0, 0.0
        while queue < queues - 1 and service_s >= threshold_s:
            begin_s = threshold_s
            threshold_s *= growth
            queue += 1
        job.scratch[2] = queue
        job.scratch[3] = begin_s
        job.scratch[4] = threshold_s if queue < queues - 1 else math.inf
    queue = job.scratch[2]
    if perceptible:
        return tiered(2 * queue, left)
    return tiered(2 * queue + 1, job.arrival_s)
