"""Who says how many tokens are drafted, and how many: what a scenario's `draft_tokens` and `drafts` come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lapsbench.drafts.registry import FIXED, FLAG, find, spec_of
from lapsbench.errors import UsageError
from lapsbench.schedules import BY_BATCH, RECORDED, given_by, written
from lapsbench.sim.best_drafts import ceiling, schedule

if TYPE_CHECKING:
    from lapsbench.core import Profile
    from lapsbench.scenario import Scenario

VLLMS = ("vllm", "vllm-native")
"""Engines of vLLM's rules."""
DRAFT_TOKENS = 3
"""A round, where nobody says."""


def drafting_of(scenario: Scenario, profile: Profile) -> dict[str, Any]:
    """Return the drafts a round, who says how many, and the schedule that is followed.

    Raises:
        UsageError: two that exclude each other, or a controller that this engine does not take.
    """
    given, spec = scenario.draft_tokens, scenario.drafts
    if spec is None:
        spec = BY_BATCH if isinstance(given, str) else RECORDED if _varied(scenario, profile) else FIXED
    if spec == RECORDED:
        _check_recorded(scenario, profile)
        return {"draft_tokens": DRAFT_TOKENS if given is None else given, "drafts": RECORDED}
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


def _varied(scenario: Scenario, profile: Profile) -> bool:
    """Say whether the drafter that was recorded found now more, now fewer, and this engine is one it drafts for."""
    recorded = profile.bank is not None and profile.bank.drafted is not None
    return recorded and scenario.engine in VLLMS and scenario.scheduling != "async" and scenario.draft_tokens != 0


def _check_recorded(scenario: Scenario, profile: Profile) -> None:
    """Refuse to follow what was not recorded, or cannot be."""
    where = f"{FLAG} {RECORDED}"
    if profile.bank is None or profile.bank.drafted is None:
        what = f"profile {profile.name} does not say how many drafts were made"
        raise UsageError(what, where=where, hint="a profile of `lapsbench profile --engine vllm --draft ngram`")
    if scenario.engine not in VLLMS or scenario.scheduling == "async" or isinstance(scenario.draft_tokens, str):
        what = "is how vLLM's ngram drafts: under its rules, sync, and with one number of drafts at most"
        raise UsageError(what, where=where, hint="--engine vllm --scheduling sync --draft-tokens 3")


def drafts_asked(scenario: Scenario) -> int:
    """Return the drafts a round that a mean acceptance length is told for."""
    given = scenario.draft_tokens
    if given is None:
        return DRAFT_TOKENS
    return given if isinstance(given, int) else given_by(given)[0]
