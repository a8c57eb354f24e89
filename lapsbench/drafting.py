"""Who says how many tokens are drafted, and how many: what a scenario's `draft_tokens` and `drafts` come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lapsbench.drafts.registry import FIXED, FLAG, find, spec_of
from lapsbench.errors import UsageError
from lapsbench.schedules import BY_BATCH, given_by, written
from lapsbench.sim.best_drafts import ceiling, schedule

if TYPE_CHECKING:
    from lapsbench.core import Profile
    from lapsbench.scenario import Scenario

DRAFT_TOKENS = 3
"""A round, where nobody says."""


def drafting_of(scenario: Scenario, profile: Profile) -> dict[str, Any]:
    """Return the drafts a round, who says how many, and the schedule that is followed.

    Raises:
        UsageError: two that exclude each other, or a controller that this engine does not take.
    """
    given, spec = scenario.draft_tokens, scenario.drafts
    if spec is None:
        spec = BY_BATCH if isinstance(given, str) else FIXED
    if spec == FIXED and not isinstance(given, str):
        return {"draft_tokens": DRAFT_TOKENS if given is None else given}
    controller = None if spec == FIXED else find(spec)
    if isinstance(given, str):
        if controller is None or controller.name != BY_BATCH:
            what = "follows no schedule, and --draft-tokens is one"
            raise UsageError(what, where=f"{FLAG} {spec}", hint=f"{FLAG} {BY_BATCH}, or one number for --draft-tokens")
        most, text = given_by(given)
    else:
        most, text = ceiling(profile) if given is None else given, ""
        if controller is not None and controller.name == BY_BATCH:
            text = written(schedule(profile, scenario.max_batch, most))
    native = scenario.engine == "vllm-native"
    if native and controller is not None and controller.name != BY_BATCH:
        raise UsageError("vLLM's own scheduler asks no controller", where=f"{FLAG} {spec}", hint="--engine vllm")
    if native and "@" in text:
        raise UsageError("vLLM's own schedule has no bands of context", where="--draft-tokens", hint="--engine vllm")
    return {"draft_tokens": most, "drafts": spec_of(controller) if controller else "", "schedule": text}


def drafts_asked(scenario: Scenario) -> int:
    """Return the drafts a round that a mean acceptance length is told for."""
    given = scenario.draft_tokens
    if given is None:
        return DRAFT_TOKENS
    return given if isinstance(given, int) else given_by(given)[0]
