"""What no controller can know: what the requests of the step would accept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.drafts.registry import controller

if TYPE_CHECKING:
    from lapsbench.drafts.view import Step


@controller(source="bound", knows=("batch", "mean context", "costs", "true acceptance"), oracle=True)
def oracle_k(step: Step) -> float:
    """Most tokens a second in this step, knowing what its requests would accept; no bound on JCT."""
    tokens = 1.0 * step.batch
    best, most = 0, tokens
    for j in range(1, step.most_drafts + 1):
        tokens += step.would_accept[j]
        if tokens * step.cost_s[best] > most * step.cost_s[j]:
            best, most = j, tokens
    return best
