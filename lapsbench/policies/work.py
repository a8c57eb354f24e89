"""Schedulers that count the prompt: a prefill holds up all places of the batch, a round only its share of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.compiled.later import helper
from lapsbench.core import CALIBRATION
from lapsbench.policies.registry import policy

if TYPE_CHECKING:
    from lapsbench.policies.view import Job, System

KNOWS = ("predicted length", "prompt length", CALIBRATION)
TODAY = "today's fcfs p99"
FIRST = -1e9
"""Below any work: the ranks of those whose patience is over."""
OF_TODAY = 0.85
"""Of today's p99: what most of the gain is had for, with a tail that is 1.1 to 1.3 times as long."""


@helper
def engine_s(prefill_s: float, rounds: float, system: System) -> float:
    """Return engine time: that of a prefill, and a place's share of so many rounds of a full batch."""
    return prefill_s + rounds * system.round_s / system.max_batch


@helper
def prefill_left_s(job: Job) -> float:
    """Return what is left of a job's prefill, alone; after a recomputation that may be more than its prompt's."""
    return job.prefill_s * job.prefill_left_tokens / job.prompt_tokens


@helper
def weighed(job: Job, system: System, work_s: float, margin: float) -> float:
    """Rank by work left; a running job is ahead by what preempting it would cost all: a prefill holds up everybody.

    It asks to be ranked again should it be displaced: then nothing is left to save.
    """
    if job.resume_s == 0.0 and not (margin != 1.0 and job.attained_s > 0.0 and job.last_run_step == system.step - 1):
        return work_s
    job.review_step = system.step + 1.0
    return work_s / margin - (system.max_batch + system.waiting) * job.resume_s


@policy(preemptive=False, source="this project", knows=KNOWS)
def work(job: Job, system: System) -> float:
    """Least predicted engine time, prompt included; running jobs keep their place."""
    rounds = job.predicted_tokens / system.mean_tokens_per_round
    return job.prefill_s + rounds * system.round_s / system.max_batch


@policy(preemptive=False, source="this project", knows=(*KNOWS, TODAY))
def work_patient(job: Job, system: System, patience_s: float = 0) -> float:
    """As work, but whoever has been here for patience_s goes first, oldest first; 0: 0.85 x today's fcfs p99."""
    patience = patience_s if patience_s > 0 else OF_TODAY * system.fcfs_p99_s
    late_s = job.arrival_s + patience
    if system.now_s >= late_s:
        return FIRST + job.arrival_s
    job.review_s = late_s
    return engine_s(job.prefill_s, job.predicted_tokens / system.mean_tokens_per_round, system)


@policy(preemptive=True, source="this project", knows=KNOWS)
def srpt_work(job: Job, system: System, margin: float = 1) -> float:
    """Least predicted engine time left, prompt included; preempts only where that gains more than it costs."""
    rounds = max(job.predicted_tokens - job.emitted_tokens, 0.0) / system.mean_tokens_per_round
    return weighed(job, system, engine_s(prefill_left_s(job), rounds, system), margin)
