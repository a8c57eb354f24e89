"""What settings become on a real engine: whose acceptance, and which memory and contexts that engine has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapsbench.drafts.registry import FIXED
from lapsbench.errors import UsageError
from lapsbench.execution.wanted import is_lookup
from lapsbench.schedules import BY_BATCH, RECORDED
from lapsbench.vllm.lookup import check_lookup

if TYPE_CHECKING:
    from lapsbench.execution.wanted import Accepting, Prepared, Wanted
    from lapsbench.scenario import Scenario

VLLM_CPU_BLOCK_TOKENS = 128
"""vLLM's own default on a CPU."""


def accepting(scenario: Scenario, wanted: Wanted, prepared: Prepared) -> Wanted:
    """Return what is wanted, with acceptance settled: imposed where nobody has to draft and the platform lets us.

    Raises:
        UsageError: it cannot be as asked for.
    """
    if wanted.device == "cuda" and prepared.device != "cuda":
        raise UsageError("there is none here", where="--device cuda", hint="--device cpu")
    if prepared.device != "cpu" and wanted.clock == "cpu":
        raise UsageError("a thread's CPU time is no GPU's time", where="--clock cpu", hint="--clock wall")
    if scenario.draft_tokens == 0:
        return replace(wanted, acceptance="own")
    _check_drafting(scenario, wanted)
    if wanted.engine == "vllm":
        check_lookup(wanted.draft or "")
    against = _against_imposing(scenario, wanted, prepared)
    asked = wanted.acceptance or ("imposed" if scenario.acceptance is not None else None)
    if asked == "imposed" and against:
        raise UsageError(f"cannot be imposed: {against}", where="--acceptance", hint="--acceptance own")
    imposes = wanted.engine == "vllm" and not against and wanted.draft is None  # --draft ngram is to draft
    found: Accepting = asked or ("imposed" if imposes else "own")
    method = scenario.draft_method
    if found == "own" and wanted.engine == "vllm" and (method or "ngram") != "ngram" and wanted.draft is None:
        raise UsageError("takes a draft model", where=f"--draft-method {method}", hint="--draft MODEL")
    return replace(wanted, acceptance=found)


def _check_drafting(scenario: Scenario, wanted: Wanted) -> None:
    """Refuse drafts that vary on vLLM, and none where our decoder is to draft."""
    if wanted.engine == "torch" and wanted.draft is None:
        hint = "--draft MODEL, --draft ngram:4, or --draft-tokens 0"
        raise UsageError("drafts, and there is nothing to draft with", where="--engine torch", hint=hint)
    if wanted.engine == "vllm" and scenario.drafts not in (None, FIXED, RECORDED, BY_BATCH):
        what, hint = "asks a controller, and vLLM itself has none", f"--drafts {BY_BATCH}, or --draft-tokens 1-4:3,5-:1"
        raise UsageError(what, where=f"--drafts {scenario.drafts}", hint=hint)
    if wanted.engine == "vllm" and isinstance(scenario.draft_tokens, str) and "@" in scenario.draft_tokens:
        what = "vLLM's own schedule has no bands of context"
        raise UsageError(what, where="--draft-tokens", hint="ranges of batch sizes alone: 1-4:3,5-:1")


def _against_imposing(scenario: Scenario, wanted: Wanted, prepared: Prepared) -> str:
    """Say why acceptance cannot be imposed; "" if it can."""
    if wanted.engine == "torch":
        return ""
    if wanted.draft is not None and not is_lookup(wanted.draft):
        return "--draft names a model that drafts"
    if (scenario.draft_method or "ngram") != "ngram":
        return f"--draft-method {scenario.draft_method} takes a model that drafts"
    return "" if prepared.device == "cpu" else "vLLM's sampler can be told so on a CPU only"


def settled(scenario: Scenario, wanted: Wanted, prepared: Prepared) -> Scenario:
    """Return the scenario with what nobody gave as this engine has it, not as the profile's device had it."""
    if wanted.engine != "vllm":
        return scenario
    defaults: dict[str, Any] = {
        "kv_tokens": 0,
        "draft_method": "ngram" if wanted.draft is None or is_lookup(wanted.draft) else "draft_model",
        "max_model_len": prepared.context_tokens or None,
    }
    if prepared.device == "cpu":
        defaults["block_tokens"] = VLLM_CPU_BLOCK_TOKENS
    return scenario.model_copy(
        update={name: value for name, value in defaults.items() if getattr(scenario, name) is None}
    )


def model_key(model: str) -> list[Any]:
    """Return what tells a model's folder from another, or from itself after it was changed."""
    folder = Path(model)
    if not folder.is_dir():
        return [model]
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [model, *([path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files)]
