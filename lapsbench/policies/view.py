"""What a policy sees, as types, and the few helpers policies share. `core.JOB` and `core.SYSTEM` are the truth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from lapsbench.compiled.later import helper

if TYPE_CHECKING:
    from lapsbench.core import Floats

LEVEL = 2.0**40
"""Distance between queue levels whose order within a level is a step number: exact in a float64."""
TIER = 1e7
"""Distance between tiers of `tiered`: leaves 1e-8 of resolution at 16 tiers."""


class Job(Protocol):
    """One live request. Fields and units: `lapsbench.core.JOB`."""

    arrival_s: float
    predicted_tokens: float
    predicted_rounds: float
    prefill_s: float
    attained_s: float
    last_run_s: float
    review_s: float
    client_tokens: float
    last_run_step: int
    review_step: float
    prompt_tokens: int
    predicted_class: int
    priority: int
    category: int
    resume_s: float
    own_tokens_per_round: float
    past_ratio: float
    prefill_left_tokens: int
    emitted_tokens: int
    rounds: int
    accepted_tokens: int
    scratch: Floats


class System(Protocol):
    """Everything else a policy may see. Fields and units: `lapsbench.core.SYSTEM`."""

    now_s: float
    step: int
    max_batch: int
    draft_tokens: int
    mean_tokens_per_round: float
    mean_round_s: float
    mean_service_s: float
    service_p20_s: float
    round_s: float
    waiting: int
    backlog_s: float
    fcfs_p99_s: float
    category_tokens_per_round: Floats
    params: Floats
    table: Floats


@helper
def tiered(tier: float, key: float) -> float:
    """Return one number that orders by (tier, key), for keys below `TIER`; larger keys share the end of their tier."""
    return tier * TIER + min(key, TIER - 1.0)


@helper
def tokens_per_round(job: Job, system: System, prior_rounds: float) -> float:
    """Estimate a job's tokens per round: (tokens + k0 m0) / (rounds + k0), shrunken towards the calibration mean m0.

    Empirical Bayes with k0 = prior_rounds; k0 = 0 is the plain running mean, m0 before the first round.
    """
    return shrunken(job.rounds, job.accepted_tokens, prior_rounds, system.mean_tokens_per_round)


@helper
def shrunken(rounds: int, accepted_tokens: int, prior_rounds: float, prior: float) -> float:
    """Estimate tokens per round from what was seen and a prior that counts as `prior_rounds` rounds."""
    if rounds + prior_rounds == 0:
        return prior
    return (rounds + accepted_tokens + prior_rounds * prior) / (rounds + prior_rounds)


@helper
def deviation(values: Floats, first: int, size: int) -> float:
    """Return standard deviation over mean of values[first:first + size]."""
    total = squares = 0.0
    for i in range(first, first + size):
        total += values[i]
        squares += values[i] * values[i]
    mean = total / size
    return math.sqrt(max(squares / size - mean * mean, 0.0)) / mean
