"""The drafts that give most tokens a second, by the profile's costs and the acceptance seen so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.drafts.registry import controller

if TYPE_CHECKING:
    from lapsbench.drafts.view import Step


@controller(source="SmartSpec 2406.14066", knows=("batch", "mean context", "costs", "acceptance so far, pooled"))
def goodput(step: Step, prior: float = 0.7, weight: float = 20) -> float:
    """Most expected tokens a second, by the profile's costs here and the pooled acceptance seen so far.

    A draft at place j is accepted, if all before it are, with (passed + weight p) / (tried + weight), where p is the
    same over all places, and at first `prior`.
    """
    mean = (step.passed[0] + weight * prior) / (step.tried[0] + weight)
    best, best_s, most, reached, tokens = 0, step.cost_s[0], 1.0, 1.0, 1.0
    for j in range(1, step.most_drafts + 1):
        reached *= (step.passed[j] + weight * mean) / (step.tried[j] + weight)
        tokens += reached
        cost_s = step.cost_s[j]
        if tokens * best_s > most * cost_s:
            best, best_s, most = j, cost_s, tokens
            step.scratch[0] = best  # a store keeps this a branch, which is foreseen: selects take 23 ns more a step
    return best
