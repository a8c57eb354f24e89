"""Each request its own number of drafts, by its own acceptance so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.drafts.registry import controller

if TYPE_CHECKING:
    from lapsbench.drafts.view import Job, Step


@controller(source="vLLM 17984", knows=("batch", "mean context", "costs", "own acceptance so far, and pooled"))
def per_request(job: Job, step: Step, prior: float = 0.7, weight: float = 100) -> float:
    """Each request the drafts whose tokens, by its own acceptance, are worth most above the time they take.

    A draft is accepted with a = (accepted + weight p) / (tried + weight), where p is the same over all requests, and at
    first `prior`. Time is worth the tokens a second of the k that is best for all alike, by p.
    """
    mean = (step.passed[0] + 20.0 * prior) / (step.tried[0] + 20.0)
    best, most, reached, tokens = 0, 1.0, 1.0, 1.0
    for j in range(1, step.most_drafts + 1):
        reached *= mean
        tokens += reached
        if tokens * step.cost_s[best] > most * step.cost_s[j]:
            best, most = j, tokens
    own = (job.accepted_tokens + weight * mean) / (job.tried_tokens + weight)
    drafts, gain, reached, tokens = 0, step.cost_s[best] - most * step.cost_s[0], 1.0, 1.0
    for j in range(1, step.most_drafts + 1):
        reached *= own
        tokens += reached
        more = tokens * step.cost_s[best] - most * step.cost_s[j]
        if more > gain:
            drafts, gain = j, more
    return drafts
