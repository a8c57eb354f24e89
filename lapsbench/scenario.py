"""What to replay: a TOML file and flags, checked and turned into nouns. A flag beats the file, the file the default."""

from __future__ import annotations

import json
import math
import tomllib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lapsbench.acceptance.chosen import chosen, of_length
from lapsbench.core import Engine, OnPreempt
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.metrics.slo import Slo
from lapsbench.policies.predictors import parse_predictor
from lapsbench.policies.registry import find, spec_of
from lapsbench.refusals import refusal, usage
from lapsbench.resources import names as shipped_names
from lapsbench.resources import shipped
from lapsbench.sim.sweep import Plan
from lapsbench.store.profile import open_profile
from lapsbench.traces import open_trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lapsbench.core import Profile, Trace

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
SYNTHETIC_BANK = "synthetic acceptance"
"""The place that errors of a generated bank name."""
WINDOW = "FROM:TO in seconds, such as 0:600"


class Scenario(BaseModel):
    """Every setting of a replay; the names are those of the flags, with underscores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trace: str | None = None
    columns: str | None = None
    time_unit: str | None = None
    profile: str = PROFILE
    acceptance: str | None = None
    acceptance_length: float | None = Field(default=None, gt=1, le=256, allow_inf_nan=False)
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

    @field_validator("*", mode="before")
    @classmethod
    def _something(cls, value: object) -> object:
        """Refuse what only looks like a value: true for 1, and the text of an unset shell variable."""
        if isinstance(value, bool):
            raise refusal(f"{str(value).lower()} is neither a number nor a name", "a value without quotes")
        if isinstance(value, str) and not value.strip():
            raise refusal("is empty", "a value, or leaving it out")
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
        return Scenario.model_validate(_over(settings, given))
    except ValidationError as error:
        raise usage(error, path, given, Scenario.model_fields) from error


def as_toml(scenario: Scenario) -> str:
    """Return the file that `read` makes the same scenario of, with the defaults that depend on others filled in."""
    loads = tuple(load for load in scenario.loads if load is not None)
    resolved = scenario.model_copy(update={"trace": scenario.trace or TRACE, "load": loads})
    settings = {key: value for key, value in resolved.model_dump(mode="python").items() if value not in (None, ())}
    return "".join(f"{key} = {_toml(value)}\n" for key, value in settings.items())


def plan(scenario: Scenario) -> tuple[Plan, str]:
    """Open and parse everything the scenario names; return the plan, and the baseline's name."""
    scenario.parsed_slo  # noqa: B018 - a bad SLO should not wait for the replay to end
    policies = [find(spec) for spec in scenario.policies]
    baseline = _baseline(scenario, [spec_of(policy) for policy in policies])
    predictor = parse_predictor(scenario.predict)
    with _blaming("--trace"):
        trace = open_trace(
            scenario.trace or TRACE,
            window=scenario.window,
            limit=scenario.limit,
            columns=scenario.columns,
            time_unit=scenario.time_unit,
        )
    history = _history(scenario)
    profile, remarks = _profile(scenario)
    trace = replace(trace, notes=(*trace.notes, *remarks))
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


def _over(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Put `given` over settings; load and rate are one setting, so either replaces the other."""
    left_out = {"load", "rate"} if {"load", "rate"} & set(given) else set()
    return {key: value for key, value in settings.items() if key not in left_out} | dict(given)


def _settings(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
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


def _baseline(scenario: Scenario, names: list[str]) -> str:
    if scenario.baseline is None:
        return "fcfs" if "fcfs" in names else names[0]
    if scenario.baseline in names:
        return scenario.baseline
    with _blaming("--baseline"):
        wanted = spec_of(find(scenario.baseline))
    if wanted not in names:
        raise UsageError(f"{wanted} is not among the policies", where="--baseline", hint=f"one of: {', '.join(names)}")
    return wanted


def _history(scenario: Scenario) -> Trace | None:
    """Open what calibrated policies learn from; it must not be what they are tested on."""
    if not scenario.calibration:
        return None
    with _blaming("--calibration"):
        history = open_trace(scenario.calibration)
    if _file_of(scenario.calibration) == _file_of(scenario.trace or TRACE):
        what = "is the replayed trace: policies would learn from their own test"
        raise UsageError(what, where="--calibration", hint="another trace")
    return history


def _profile(scenario: Scenario) -> tuple[Profile, tuple[str, ...]]:
    """Open the profile; with other acceptance than its own, where that is asked for, and remarks on it."""
    profile = open_profile(scenario.profile)
    spec, length, k = scenario.acceptance, scenario.acceptance_length, scenario.draft_tokens
    if spec is None and length is None:
        return profile, ()
    flag = "--acceptance" if length is None else "--acceptance-length"
    if k == 0:
        raise UsageError("means nothing without drafts", where=flag, hint="--draft-tokens 1 or more")
    with _blaming(flag):
        found = of_length(length, profile.bank, k) if length is not None else chosen(spec or "", profile.bank, k)
    provenance = {**profile.provenance, "label": f"{profile.label}; {found.label}"}
    return replace(profile, bank=found.bank, provenance=provenance), found.notes


def _file_of(trace: str) -> Path:
    return (shipped("traces") / f"{trace}.parquet" if trace in shipped_names("traces") else Path(trace)).resolve()


@contextmanager
def _blaming(flag: str) -> Iterator[None]:
    """Name the flag that is to blame, where what it calls names a flag or noun of its own."""
    try:
        yield
    except UsageError as error:
        if error.where not in ("--policy", "trace", SYNTHETIC_BANK) and not error.where.startswith("acceptance "):
            raise
        raise UsageError(error.what, where=flag, hint=error.hint) from error


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
