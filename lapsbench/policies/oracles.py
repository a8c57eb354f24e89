"""What no scheduler can know, and what knowing it is worth; each says what it bounds, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.core import CALIBRATION
from lapsbench.policies.registry import policy
from lapsbench.policies.work import engine_s, prefill_left_s, weighed

if TYPE_CHECKING:
    from lapsbench.policies.view import Job, System

ALONE = "at batch 1 with free preemption where prefill takes no time; it counts no prompts, and bounds nothing else"
TOGETHER = "at batch 1 with free preemption; in batches the best known, not proven"


@policy(
    preemptive=True,
    source="bound",
    knows=("true length",),
    oracle="lengths",
    bounds=f"what knowing lengths can do for mean JCT {ALONE}",
)
def oracle_srpt_tokens(job: Job) -> float:
    """Fewest true output tokens left."""
    return job.predicted_tokens - job.emitted_tokens


@policy(
    preemptive=True,
    source="bound",
    knows=("true length", "true acceptance"),
    oracle="all",
    bounds=f"mean JCT {ALONE}",
)
def oracle_srpt_rounds(job: Job) -> float:
    """Fewest true rounds left, plus one while the prompt is incomplete."""
    return job.predicted_rounds - job.rounds + (1 if job.prefill_left_tokens > 0 else 0)


@policy(
    preemptive=True,
    source="bound",
    knows=("true length", "prompt length", CALIBRATION),
    oracle="lengths",
    bounds=f"what prompts and knowing lengths can do for mean JCT {TOGETHER}",
)
def oracle_work_tokens(job: Job, system: System) -> float:
    """Least engine time left: prompt, and true output tokens at everybody's mean acceptance."""
    rounds = (job.predicted_tokens - job.emitted_tokens) / system.mean_tokens_per_round
    return weighed(job, system, engine_s(prefill_left_s(job), rounds, system), 1.0)


@policy(
    preemptive=True,
    source="bound",
    knows=("true length", "true acceptance", "prompt length", CALIBRATION),
    oracle="all",
    bounds=f"mean JCT {TOGETHER}",
)
def oracle_work_rounds(job: Job, system: System) -> float:
    """Least engine time left: prompt, and true rounds."""
    return weighed(job, system, engine_s(prefill_left_s(job), job.predicted_rounds - job.rounds, system), 1.0)


@policy(
    preemptive=True,
    source="bound",
    knows=("predicted length", "prompt length", "its own mean acceptance", CALIBRATION),
    oracle="own-mean",
)
def oracle_own_mean(job: Job, system: System) -> float:
    """As srpt-work, told at arrival the mean acceptance that each request will have."""
    rounds = max(job.predicted_tokens - job.emitted_tokens, 0.0) / job.own_tokens_per_round
    return weighed(job, system, engine_s(prefill_left_s(job), rounds, system), 1.0)
