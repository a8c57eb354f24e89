"""Policies to try an engine with: built-in ones tuned so that they act within a few steps, and awkward others."""

from lapsbench.policies.registry import policy

VARIANTS = [  # tuned so that promotions, demotions and stability happen within a few steps
    "ltr:starvation_steps=3,quantum_steps=2",
    "mlfq:starvation_s=0.02,quantum_s=0.001",
    "laps-sd:window=2,eps=0.3",
    "laps-sd:window=4,eps=0.1,queues=3,quantum_s=0.002",
    "trail:c=0.3",
    "gittins:per_class=0",
    "boost:gamma=50",
    "vtc:w_in=3,w_out=1",
    "srpt-accept:category=1",
    "work-patient:patience_s=0.05",
    "srpt-work:margin=1.5",
    "srpt:preempt=1",
    "las:preempt=2",
    "boost:preempt=0",
    "trail:c=0.3,preempt=1",
    "mlfq:starvation_s=0.02,quantum_s=0.001,preempt=1",
]


@policy(preemptive=True)
def always_reviewed(job, system):
    """Ask for a new rank before every step, waiting or not."""
    job.review_s = system.now_s
    return (job.predicted_tokens - job.emitted_tokens) / (1.0 + system.now_s - job.last_run_s)


@policy(preemptive=True)
def reviewed_by_step(job, system):
    """Ask for a new rank every other step."""
    job.review_step = system.step + 2
    return float((job.prompt_tokens * 7 + system.step * 3) % 11)


@policy(preemptive=True, rerank="step")
def ageing(job, system):
    """Lose a token's worth of rank for every hundredth of a second waited."""
    return job.predicted_tokens - job.emitted_tokens - 100.0 * (system.now_s - job.last_run_s)


@policy(preemptive=False, rerank="step")
def patient_ageing(job, system):
    """As `ageing`, but running jobs keep their place."""
    return job.prompt_tokens - 300.0 * (system.now_s - job.arrival_s)


@policy(preemptive=False)
def shortest_prompt(job):
    """Never preempt; under a prefill budget its rank also orders the chunks."""
    return float(job.prefill_left_tokens)


@policy(preemptive=True, rerank="step", client_weights=("w_in", "w_out"))
def preemptive_vtc(job, w_in=1, w_out=2):
    """Share between clients step by step."""
    return job.client_tokens


@policy(preemptive=True)
def crowded(job, system):
    """Weigh who waits, their work, and what preempting costs."""
    job.review_step = system.step + 2
    return job.predicted_tokens * (1.0 + system.waiting % 3) - 1000.0 * system.backlog_s - 500.0 * job.resume_s


@policy(preemptive=True)
def counting(job):
    """Count in scratch how often it was asked: shows if the two ask differently often."""
    job.scratch[0] += 1
    return job.scratch[0] % 5


THIRD_PARTY = [
    always_reviewed,
    reviewed_by_step,
    ageing,
    patient_ageing,
    shortest_prompt,
    preemptive_vtc,
    counting,
    crowded,
]
