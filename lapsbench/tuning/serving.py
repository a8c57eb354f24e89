"""What was found as others read it: a scenario file for `lapsbench replay`, and the flags of `vllm serve`."""

from __future__ import annotations

import json
import shlex
import textwrap
from typing import TYPE_CHECKING, Any

from lapsbench.core import CALIBRATION
from lapsbench.policies.registry import find, vllms_own
from lapsbench.scenario import as_toml
from lapsbench.schedules import BY_BATCH, RECORDED, VLLMS_KEY, VLLMS_MOST, as_vllm, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lapsbench.core import Engine, Policy
    from lapsbench.tuning.space import Setting
    from lapsbench.tuning.traffic import Look

VLLM_BLOCK_TOKENS = 16
COLUMNS = 72
"""Of JSON: flag, quotes and the backslash stand beside it."""
LOOKUP = {"prompt_lookup_min": 2, "prompt_lookup_max": 4}
IDEAL = "no vllm serve flags: these are the rules of the ideal engine, and no server's"


def scenario_toml(setting: Setting, look: Look, rate_rps: float | None) -> str:
    """Return the scenario that replays a setting on a look, beside fcfs and srpt in the same batch and drafts."""
    policies = dict.fromkeys(("fcfs", setting.policy, "srpt"))
    scenario = setting.scenario.model_copy(
        update={
            "policies": tuple(policies),
            "load": (),
            "rate": rate_rps,
            "window": look.window,
            "limit": None,
            "seed": look.seeds[0],
            "repeats": len(look.seeds),
            "trace": setting.scenario.trace or "chat",
        }
    )
    return as_toml(scenario)


def serve_command(setting: Setting, engine: Engine) -> str:
    """Return the command that serves a setting, and under it, as comments, what vLLM cannot be told."""
    if setting.scenario.engine == "ideal":
        return f"# {IDEAL}\n"
    policy = find(setting.policy)
    lines = [
        ["vllm", "serve", "MODEL"],
        *_scheduler(setting, policy, engine),
        ["--max-num-seqs", str(engine.max_batch), "--max-num-batched-tokens", str(engine.batched_tokens)],
        [f"--{'' if engine.scheduling == 'async' else 'no-'}async-scheduling"],
        *([] if engine.prefix_cache else [["--no-enable-prefix-caching"]]),
        *([] if engine.block_tokens == VLLM_BLOCK_TOKENS else [["--block-size", str(engine.block_tokens)]]),
        *([["--max-model-len", str(engine.max_model_len)]] if engine.max_model_len else []),
        *([["--speculative-config", _json(_drafting(engine))]] if engine.draft_tokens else []),
    ]
    return " \\\n  ".join(map(shlex.join, lines)) + "\n" + "".join(f"# {line}\n" for line in _left_out(policy, engine))


def _json(value: dict[str, Any]) -> str:
    """Return JSON in lines that fit a terminal, unless that would break a text of it."""
    text = json.dumps(value)
    lines = textwrap.fill(text, COLUMNS, break_long_words=False, break_on_hyphens=False, subsequent_indent="    ")
    try:
        return lines if json.loads(lines) == value else text
    except ValueError:
        return text


def _scheduler(setting: Setting, policy: Policy, engine: Engine) -> list[list[str]]:
    """Return the flags of the plug-in; none where vLLM has the policy itself."""
    if own := vllms_own(policy):
        return [] if own == "fcfs" else [["--scheduling-policy", own]]
    scenario = setting.scenario
    options: dict[str, Any] = {"policy": setting.policy, "profile": scenario.profile}
    if engine.on_preempt != "recompute":
        options["on_preempt"] = engine.on_preempt
    if CALIBRATION in policy.knows or policy.calibrate:
        options["predict"] = scenario.predict
        if scenario.calibration:
            options["calibration"] = scenario.calibration
    name = "AsyncScheduler" if engine.scheduling == "async" else "Scheduler"
    return [
        ["--scheduler-cls", f"lapsbench.vllm.{name}"],
        ["--additional-config", _json({"lapsbench": options})],
    ]


def _drafting(engine: Engine) -> dict[str, Any]:
    """Return vLLM's speculative configuration."""
    drafts: dict[str, Any] = {"method": engine.draft_method}
    drafts |= LOOKUP if engine.draft_method == "ngram" else {"model": "DRAFT"}
    drafts[VLLMS_MOST] = engine.draft_tokens
    if engine.schedule and "@" not in engine.schedule:
        drafts[VLLMS_KEY] = as_vllm(parsed(engine.schedule), engine.max_batch)
    return drafts


def _left_out(policy: Policy, engine: Engine) -> Iterator[str]:
    if "@" in engine.schedule:
        yield "vLLM's schedule knows no context, and this one does: it is not among these flags"
    elif engine.drafts not in ("", BY_BATCH, RECORDED):
        yield f"vLLM asks no controller, so drafts do not follow {engine.drafts}"
    if any("predicted length" in each for each in policy.knows):
        yield "each request brings its predicted_tokens: docs/vllm.md"
