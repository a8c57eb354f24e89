"""What to replay: a TOML file and flags, checked and turned into nouns. A flag beats the file, the file the default."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path  # noqa: TC003 - pydantic reads annotations
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lapsbench.core import Engine, OnPreempt
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.metrics.slo import Slo
from lapsbench.policies.predictors import parse_predictor
from lapsbench.policies.registry import find, spec_of
from lapsbench.sim.sweep import Plan
from lapsbench.store.profile import open_profile
from lapsbench.traces import open_trace

if TYPE_CHECKING:
    from collections.abc import Mapping

TRACE, PROFILE, DEMO_LOAD = "chat", "h100-llama3.1-8b-eagle3", 0.9
POLICIES = (
    "fcfs",
    "las",
    "sjf",
    "srpt",
    "srpt-accept",
    "laps-sd",
    "oracle-srpt-tokens",
    "oracle-srpt-rounds",
)


class Scenario(BaseModel):
    """Every setting of a replay; the names are those of the flags, with underscores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trace: str | None = None
    profile: str = PROFILE
    policies: tuple[str, ...] = POLICIES
    predict: str = "noisy:sigma=0.5"
    load: tuple[float, ...] = ()
    rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_batch: int = Field(default=64, ge=1, le=4096)
    draft_tokens: int = Field(default=3, ge=0, le=255)
    prefill_budget: int = Field(default=0, ge=0, lt=2**31)
    kv_tokens: int = Field(default=0, ge=0, lt=2**62)
    on_preempt: OnPreempt = "keep"
    limit: int | None = Field(default=None, ge=1)
    window: tuple[float, float] | None = None
    seed: int = Field(default=0, ge=0, lt=2**31 - 10_000)
    repeats: int = Field(default=5, ge=1, le=10_000)
    slo: str | None = None
    baseline: str | None = None
    calibration: str | None = None

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
                raise ValueError(f"{load:g} is not a fraction of capacity")
        if len(set(value)) != len(value):
            raise ValueError("a load is given twice")
        return value

    @field_validator("window", mode="before")
    @classmethod
    def _window(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        start, colon, end = value.partition(":")
        if not colon:
            raise ValueError("a window is written FROM:TO, in seconds")
        return float(start or 0), float(end or math.inf)

    @model_validator(mode="after")
    def _one_rate(self) -> Scenario:
        if self.load and self.rate is not None:
            raise ValueError("load and rate exclude each other")
        if not self.policies:
            raise ValueError("no policy is given")
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


def read(path: Path | None, flags: Mapping[str, Any]) -> Scenario:
    """Return the scenario of a TOML file (None: no file) and the flags that were given (those not None).

    Raises:
        UsageError: a key or value that means nothing.
        LapsbenchError: the file cannot be read.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            settings = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise LapsbenchError(f"not a readable TOML file ({reason})", where=str(path), hint="docs/cli.md") from error
    given = {key: value for key, value in flags.items() if value is not None}
    if {"load", "rate"} & set(given):  # a flag for the one replaces the file's other
        settings = {key: value for key, value in settings.items() if key not in ("load", "rate")}
    try:
        return Scenario.model_validate({**settings, **given})
    except ValidationError as error:
        raise _usage(error, path, given) from error


def plan(scenario: Scenario) -> tuple[Plan, str]:
    """Open and parse everything the scenario names; return the plan, and the baseline's name."""
    scenario.parsed_slo  # noqa: B018 - a bad SLO should not wait for the replay to end
    policies = [find(spec) for spec in scenario.policies]
    names = [spec_of(policy) for policy in policies]
    predictor = parse_predictor(scenario.predict)
    trace = open_trace(scenario.trace or TRACE, window=scenario.window, limit=scenario.limit)
    history = open_trace(scenario.calibration) if scenario.calibration else None
    if history is not None and scenario.calibration == (scenario.trace or TRACE):
        raise UsageError(
            "is the replayed trace: policies would learn from their own test", where="--calibration", hint="another one"
        )
    profile = open_profile(scenario.profile)
    baseline = _baseline(scenario, names)
    return Plan(
        trace=trace,
        profile=profile,
        engine=Engine(
            max_batch=scenario.max_batch,
            draft_tokens=scenario.draft_tokens,
            prefill_budget=scenario.prefill_budget,
            kv_tokens=scenario.kv_tokens,
            on_preempt=scenario.on_preempt,
        ),
        predictor=predictor,
        policies=tuple(policies),
        loads=scenario.loads,
        rate_rps=scenario.rate,
        seeds=tuple(range(scenario.seed, scenario.seed + scenario.repeats)),
        history=history,
    ), baseline


def _baseline(scenario: Scenario, names: list[str]) -> str:
    if scenario.baseline is None:
        return "fcfs" if "fcfs" in names else names[0]
    wanted = spec_of(find(scenario.baseline))
    if wanted not in names:
        raise UsageError(f"{wanted} is not among the policies", where="--baseline", hint=f"one of: {', '.join(names)}")
    return wanted


def _span(text: str) -> list[float]:
    """Read one number, or FROM:TO:STEP with both ends."""
    numbers = [float(part) for part in text.split(":")]
    if len(numbers) == 1:
        return numbers
    start, end, step = numbers
    if not (step > 0 and end >= start and (end - start) / step < 1000):
        raise ValueError(f"{text} is not FROM:TO:STEP")
    return [round(start + i * step, 9) for i in range(round((end - start) / step) + 1)]


def _usage(error: ValidationError, path: Path | None, given: Mapping[str, Any]) -> UsageError:
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return UsageError(f"unknown key {key!r}", where=str(path), hint=f"one of: {', '.join(Scenario.model_fields)}")
    where = f"--{key.replace('_', '-')}" if key in given or path is None else f"{path}, key {key}"
    shown = f" (got {first['input']!r})" if key and not isinstance(first["input"], dict) else ""
    return UsageError(f"{what}{shown}", where=where if key else "scenario", hint="lapsbench replay --help")
