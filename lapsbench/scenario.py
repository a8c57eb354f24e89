"""What to replay: a TOML file and flags, checked. A flag beats the file, the file the default."""

from __future__ import annotations

import json
import math
import tomllib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lapsbench.core import DRAFTS_MOST, DraftMethod, OnPreempt, Scheduling
from lapsbench.engines import EngineName, misplaced
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.metrics.choice import TAIL
from lapsbench.metrics.slo import Slo
from lapsbench.refusals import place, refusal, usage
from lapsbench.schedules import VLLM, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TRACE, PROFILE, DEMO_LOAD = "chat", "h100-llama3.1-8b-eagle3", 0.9
POLICIES = (
    "fcfs",
    "sjf",
    "srpt",
    "laps-sd",
    "work",
    "least-work",
    "work-patient",
    "oracle-work-tokens",
    "oracle-work-rounds",
)
SMOKE = MappingProxyType(
    {
        "policies": ("fcfs", "srpt", "laps-sd", "oracle-srpt-tokens", "oracle-srpt-rounds"),
        "load": (0.9,),
        "max_batch": 16,
        "limit": 1200,
        "repeats": 3,
    }
)
"""Defaults of `--smoke`: 1,200 requests a seed have a p99 that a gate accepts."""
LOADS = "0.9, or several: 0.7,0.9, or FROM:TO:STEP"
MOST = f"{DRAFTS_MOST} or less"
WINDOW = "FROM:TO in seconds, such as 0:600"


class Scenario(BaseModel):
    """Every setting of a replay; the names are those of the flags, with underscores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trace: str | None = None
    columns: str | None = None
    time_unit: str | None = None
    failed: Literal["drop", "keep"] = "drop"
    profile: str = PROFILE
    acceptance: str | None = None
    acceptance_length: float | None = Field(default=None, gt=1, le=256, allow_inf_nan=False)
    policies: tuple[str, ...] = POLICIES
    predict: str = "noisy:sigma=0.5"
    load: tuple[float, ...] = ()
    rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_batch: int = Field(default=64, ge=1, le=4096)
    draft_tokens: int | str | None = None
    drafts: str | None = None
    engine: EngineName = "vllm"
    prefill_budget: int | None = Field(default=None, ge=0, lt=2**31)
    batched_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    kv_tokens: int | None = Field(default=None, ge=0, lt=2**40)
    block_tokens: int | None = Field(default=None, ge=1, le=65_536)
    prefix_cache: Literal["on", "off"] | None = None
    scheduling: Scheduling | None = None
    draft_method: DraftMethod | None = None
    max_model_len: int | None = Field(default=None, ge=2, lt=2**31)
    on_preempt: OnPreempt | None = None
    limit: int | None = Field(default=None, ge=1)
    window: tuple[float, float] | None = None
    seed: int = Field(default=0, ge=0, lt=2**31 - 10_000)
    repeats: int = Field(default=5, ge=1, le=10_000)
    slo: str | None = None
    baseline: str | None = None
    tail: float = Field(default=TAIL, ge=1, allow_inf_nan=False)
    calibration: str | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _something(cls, value: object) -> object:
        """Refuse what only looks like a value: true for 1, and the text of an unset shell variable."""
        if isinstance(value, bool):
            raise refusal(f"{str(value).lower()} is neither a number nor a name", "a value without quotes")
        if isinstance(value, str) and not value.strip():
            raise refusal("is empty", "a value, or leaving it out")
        return value

    @field_validator("draft_tokens", mode="before")
    @classmethod
    def _drafts(cls, value: object) -> object:
        """Accept a number, also as text, or a schedule."""
        if isinstance(value, str):
            value = value.strip()
            whole = value.removeprefix("-").isdecimal()
            if not whole and not value.startswith(VLLM):
                schedule(value)
            value = int(value) if whole else value
        if isinstance(value, int) and not 0 <= value <= DRAFTS_MOST:
            raise refusal(*((f"{value} is too small", "0 or more") if value < 0 else (f"{value} is too large", MOST)))
        if isinstance(value, float):
            raise refusal(f"{value!r} is not a whole number", "a whole number, or a schedule such as 1-8:7,9-:3")
        return value

    @field_validator("load", mode="before")
    @classmethod
    def _loads(cls, value: object) -> object:
        """Accept a number, a list, or text: "0.7,0.9" and "0.6:0.9:0.1"."""
        if isinstance(value, str):
            return tuple(x for part in value.split(",") for x in _span(part))
        return (value,) if isinstance(value, int | float) else value

    @field_validator("load")
    @classmethod
    def _fractions(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for load in value:
            if not (math.isfinite(load) and 0 < load <= 10):
                raise refusal(f"{load:g} is not a fraction of capacity", "a number above 0 and up to 10, such as 0.9")
        if len(set(value)) != len(value):
            raise refusal("a load is given twice", "each load once")
        return value

    @field_validator("window", mode="before")
    @classmethod
    def _window(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        start, colon, end = value.partition(":")
        if not colon:
            raise refusal(f"{value!r} is no window", WINDOW)
        return _number(start or "0", WINDOW), _number(end or "inf", WINDOW)

    @model_validator(mode="after")
    def _one_rate(self) -> Scenario:
        if self.load and self.rate is not None:
            raise refusal("load and rate exclude each other", "one of the two")
        if self.acceptance is not None and self.acceptance_length is not None:
            raise refusal("acceptance and acceptance_length exclude each other", "one of the two")
        if not self.policies:
            raise refusal("no policy is given", 'policies = ["fcfs", "srpt"]')
        return self

    @property
    def loads(self) -> tuple[float | None, ...]:
        """The loads to replay; the demo has one of its own, a named trace keeps its own clock."""
        if self.load:
            return self.load
        return (DEMO_LOAD,) if self.trace is None and self.rate is None else (None,)

    @property
    def parsed_slo(self) -> Slo | None:
        """The SLOs, parsed."""
        return Slo.parse(self.slo) if self.slo else None


def read(path: Path | None, flags: Mapping[str, Any], *, smoke: bool = False) -> Scenario:
    """Return the scenario of a TOML file (None: no file) and the flags that were given (those not None).

    `smoke` gives other defaults: a replay of seconds that still has a queue, a tail and an interval.

    Raises:
        UsageError: a key or value that means nothing.
        LapsbenchError: the file cannot be read.
    """
    settings = _over(SMOKE if smoke else {}, _settings(path) if path is not None else {})
    given = {key: value for key, value in flags.items() if value is not None}
    if {"load", "rate"} <= set(given):
        raise UsageError("exclude each other", where="--load and --rate", hint="one of the two")
    try:
        scenario = Scenario.model_validate(_over(settings, given))
    except ValidationError as error:
        raise usage(error, path, given, Scenario.model_fields) from error
    if wrong := misplaced(scenario):
        key, what, hint = wrong
        if path is not None and key not in given and "engine" not in scenario.model_fields_set:
            hint = 'engine = "ideal"'  # what it meant when that was the default
        raise UsageError(what, where=place(key, path, given), hint=hint)
    return scenario


def as_toml(scenario: Scenario) -> str:
    """Return the file that `read` makes the same scenario of, with the defaults that depend on others filled in."""
    loads = tuple(load for load in scenario.loads if load is not None)
    resolved = scenario.model_copy(update={"trace": scenario.trace or TRACE, "load": loads})
    settings = {key: value for key, value in resolved.model_dump(mode="python").items() if value not in (None, ())}
    return "".join(f"{key} = {_toml(value)}\n" for key, value in settings.items())


def schedule(text: str) -> None:
    """Refuse a schedule that cannot be read, as any setting."""
    try:
        parsed(text)
    except UsageError as error:
        raise refusal(error.what, error.hint) from error


def _over(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Put `given` over settings; load and rate are one setting, so either replaces the other."""
    left_out = {"load", "rate"} if {"load", "rate"} & set(given) else set()
    return {key: value for key, value in settings.items() if key not in left_out} | dict(given)


def _settings(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, not TOML, a NUL in the name
        if isinstance(error, OSError):
            reason, hint = error.strerror or str(error), "the path of a scenario file"
        elif isinstance(error, UnicodeDecodeError):
            reason, hint = "it is not UTF-8", "saving it as UTF-8"
        else:
            reason, hint = str(error).splitlines()[0], "one `key = value` a line, text in quotes"
        raise LapsbenchError(f"not a readable TOML file ({reason})", where=str(path), hint=hint) from error


def _toml(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)


def _span(text: str) -> list[float]:
    """Read one number, or FROM:TO:STEP with both ends."""
    parts = text.split(":")
    if len(parts) == 1:
        return [_number(text, LOADS)]
    numbers = [_number(part, LOADS) for part in parts]
    if len(numbers) != 3:
        raise refusal(f"{text} is not FROM:TO:STEP", LOADS)
    start, end, step = numbers
    if not (step > 0 and end >= start and (end - start) / step < 1000):
        raise refusal(f"{text} is not FROM:TO:STEP", LOADS)
    return [round(start + i * step, 9) for i in range(round((end - start) / step) + 1)]


def _number(text: str, hint: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise refusal(f"{text!r} is not a number", hint) from None
