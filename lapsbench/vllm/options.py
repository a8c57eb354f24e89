"""The plug-in's options, `additional_config["lapsbench"]`, and what it refuses before anything is served."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lapsbench.core import CALIBRATION, Policy
from lapsbench.engines import rules_version
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.policies.registry import find
from lapsbench.policies.uses import wants_today
from lapsbench.vllm import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lapsbench.core import OnPreempt
    from lapsbench.vllm.calibrate import Learnt

WHERE = '--additional-config {"lapsbench": ...}'
KEYS: Mapping[str, type] = {
    "policy": str,
    "profile": str,
    "on_preempt": str,
    "log": str,
    "predict": str,
    "calibration": str,
    "any_version": bool,
}


@dataclass(frozen=True)
class Options:
    """What the server was started with.

    Attributes:
        policy: as --policy names it; spec: as it was named.
        profile: name or folder; "" for none.
        on_preempt: "recompute" or "keep".
        log: file to write the step log to; "" for none.
        predict, calibration: how lengths of the calibration sample are predicted, and a trace to take it from: as
            --predict and --calibration of lapsbench replay.
        learnt: what the policy has learnt, where the caller has it already.
    """

    policy: Policy
    spec: str = ""
    profile: str = ""
    on_preempt: OnPreempt = "recompute"
    log: str = ""
    predict: str = ""
    calibration: str = ""
    learnt: Learnt | None = None


def options_of(config: Any) -> Options:
    """Return the options in vLLM's configuration.

    Raises:
        LapsbenchError: one of them is wrong, the scheduler is not the one for this engine, or vLLM is another version.
    """
    extra = config.additional_config
    given: Any = extra.get("lapsbench", {}) if isinstance(extra, dict) else {}
    if not isinstance(given, dict):
        raise UsageError(f"is {given!r}, not an object", where=WHERE, hint='{"lapsbench": {"policy": "srpt"}}')
    if isinstance(given.get("policy"), Policy):  # ours: the referee's, or that of a workload served in this process
        return Options(**{key: value for key, value in given.items() if key in Options.__dataclass_fields__})
    _check_keys(given)
    _check_version(any_version=given.get("any_version", False))
    if config.scheduler_config.policy != "fcfs":
        what = "orders requests too, and the lapsbench policy does"
        where = f"--scheduling-policy {config.scheduler_config.policy}"
        raise UsageError(what, where=where, hint="leaving it out")
    return _found({key: value for key, value in given.items() if key != "any_version"})


def check_mode(*, asynchronous: bool, engine: bool) -> None:
    """Refuse the scheduler that is not made for this engine's mode.

    Raises:
        UsageError: with the one that is.
    """
    if asynchronous == engine:
        return
    mine, other = ("AsyncScheduler", "Scheduler") if asynchronous else ("Scheduler", "AsyncScheduler")
    flag = "--no-async-scheduling" if engine else "--async-scheduling"
    raise UsageError(
        f"this engine schedules {'asynchronously' if engine else 'synchronously'}",
        where=f"--scheduler-cls lapsbench.vllm.{mine}",
        hint=f"--scheduler-cls lapsbench.vllm.{other}, or {flag}",
    )


def _check_keys(given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, 1)
            raise UsageError(f"no option {key!r}", where=WHERE, hint=f"one of: {', '.join(near or KEYS)}")
        if not isinstance(value, KEYS[key]):
            kind = "true or false" if KEYS[key] is bool else "a text"
            raise UsageError(f"{key} is {value!r}", where=WHERE, hint=kind)


def _check_version(*, any_version: bool) -> None:
    installed = rules_version("vllm-native")
    if not any_version and not installed.startswith(f"{VERSION}."):
        raise LapsbenchError(
            f"is {installed}, and this plug-in is made for {VERSION}: vLLM's scheduler has no stable interface",
            where="vLLM",
            hint=f'vLLM {VERSION}, or "any_version": true',
        )


def _found(given: Mapping[str, Any]) -> Options:
    spec = given.get("policy", "srpt")
    try:
        policy = find(spec)
    except UsageError as error:
        where = f"{WHERE}, policy" if error.where.startswith("--policy") else error.where
        raise UsageError(error.what, where=where, hint=error.hint) from error
    on_preempt = given.get("on_preempt", "recompute")
    if on_preempt not in ("recompute", "keep"):
        raise UsageError(f"on_preempt is {on_preempt!r}", where=WHERE, hint="recompute or keep")
    if policy.is_oracle:
        raise UsageError(
            "knows what no server knows: true lengths", where=f"{WHERE}, policy {policy.name}", hint="srpt, laps-sd"
        )
    if wants_today(policy):
        what = f"{policy.name} counts its patience in today's fcfs p99, and a server does not know it"
        raise UsageError(what, where=WHERE, hint=f"{policy.name}:patience_s=SECONDS, as lapsbench replay prints it")
    profile = given.get("profile", "")
    if (CALIBRATION in policy.knows or policy.calibrate) and not profile:
        what = f"{policy.name} learns from a calibration sample"
        raise UsageError(what, where=WHERE, hint='"profile": a name, or the folder of one')
    for key in ("predict", "calibration"):
        if key in given and not profile:
            raise UsageError(f"{key} means nothing without a profile", where=WHERE, hint='"profile": NAME or FOLDER')
    return Options(**{**given, "policy": policy, "spec": spec})
