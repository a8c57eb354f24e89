"""What running a scheduler for real takes: what it must be told, and what the engine must do for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.core import CALIBRATION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lapsbench.core import Engine, Policy

KEPT = {
    "keep": "preemption that keeps the KV cache",
    "swap": "preemption that swaps the KV cache out",
    "recompute": "preemption, with recomputation",
}
TOLD = {
    "observed acceptance": "each request's acceptance",
    "priority": "priorities from clients",
    "client": "clients told apart",
    CALIBRATION: "a sample of past requests",
    "today's fcfs p99": "today's fcfs p99",
}
"""What a policy says it knows, where having that is work; `Policy.knows` has the rest."""


def needs(policy: Policy, engine: Engine, predict: str) -> tuple[str, ...]:
    """Return what running this policy on this engine takes, with predictions as good as those replayed."""
    return tuple(dict.fromkeys(_needs(policy, engine, predict)))


def _needs(policy: Policy, engine: Engine, predict: str) -> Iterator[str]:
    if predict != "none" and any("predicted length" in each for each in policy.knows):
        yield f"length predictions ({predict})"
    own_patience = policy.parameters.get("patience_s", 0) > 0
    for each in policy.knows:
        if each in TOLD and not (own_patience and each == "today's fcfs p99"):
            yield TOLD[each]
    if policy.preemptive:
        yield KEPT[engine.on_preempt]
