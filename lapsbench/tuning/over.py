"""`--over` as typed: KEY=A|B|C, KEY=LO..HI, POLICY:parameter=LO..HI. Knows spellings; what they mean is for `space`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from lapsbench.errors import UsageError
from lapsbench.policies.registry import find
from lapsbench.refusals import usage
from lapsbench.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Trial

    from lapsbench.core import Policy

FLAG = "--over"
WHOLE = ("max_batch", "draft_tokens", "batched_tokens", "prefill_budget", "block_tokens")
NAMED = ("policy", "drafts", "on_preempt", "prefix_cache", "scheduling")
KEYS = (*NAMED[:2], *WHOLE, *NAMED[2:])
"""What an operator sets; the rest is the traffic, the machine, or how it is judged."""
FORMS = "policy=fcfs|srpt-work, max_batch=16..256, or work-patient:patience_s=5..60"
LOGARITHMIC = 8.0
"""A range whose ends are this far apart is searched by ratios, not differences."""
DIGITS = 3
"""That matter of a policy's constant: `patience_s=23.4` is as good as twelve of them."""

Value = int | float | str


@dataclass(frozen=True, slots=True)
class Dimension:
    """One thing that varies.

    Attributes:
        text: as typed, after the flag.
        key: a setting by its name in a scenario, or a parameter of `policy`.
        policy: whose parameter; "" for a setting.
        choices: the values, of KEY=A|B|C; else none, and the values are from `low` to `high`.
        whole: whether they are whole numbers.
    """

    text: str
    key: str
    policy: str = ""
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False

    @property
    def name(self) -> str:
        """What the search calls it."""
        return f"{self.policy}:{self.key}" if self.policy else self.key

    @property
    def ends(self) -> tuple[Value, ...]:
        """The choices, or both ends of the range."""
        return self.choices or (self._value(self.low), self._value(self.high))

    def suggest(self, trial: Trial) -> Value:
        """Return the value of a trial."""
        if self.choices:
            return cast("Value", trial.suggest_categorical(self.name, self.choices))
        log = self.low > 0 and self.high / self.low >= LOGARITHMIC
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=log)
        return self._value(trial.suggest_float(self.name, self.low, self.high, log=log))

    def holds(self, value: object) -> bool:
        """Whether a value is among those that may be tried."""
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high

    def _value(self, number: float) -> Value:
        return int(number) if self.whole else float(f"{number:.{DIGITS}g}")


def dimensions(texts: Sequence[str]) -> tuple[Dimension, ...]:
    """Read every `--over`.

    Raises:
        UsageError: none at all, one that cannot be read, or a name that is given twice.
    """
    if not texts:
        raise UsageError("nothing may vary", where=FLAG, hint=FORMS)
    found = tuple(_dimension(text.strip()) for text in texts)
    names = [each.name for each in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{twice[0]} is given twice", where=FLAG, hint=f"one {FLAG} for each")
    return found


def policy_of(spec: str, where: str) -> Policy:
    """Return a policy that a server could run.

    Raises:
        UsageError: there is none of that name, or it is an oracle.
    """
    try:
        found = find(spec)
    except UsageError as error:
        raise UsageError(error.what, where=where, hint=error.hint) from error
    if found.is_oracle:
        raise UsageError(f"{found.name} knows what no server knows", where=where, hint="leaving it out")
    return found


def named(policy: Policy) -> str:
    """Return a policy as `--over` names it, without constants."""
    return f"{policy.file}:{policy.function}" if policy.file else policy.name


def _dimension(text: str) -> Dimension:
    left, equals, right = (part.strip() for part in text.partition("="))
    if not (left and equals and right):
        raise UsageError(f"{text!r} says not what varies over what", where=FLAG, hint=FORMS)
    where = f"{FLAG} {text}"
    policy, colon, parameter = left.rpartition(":")
    if colon:
        return _constant(text, policy.strip(), parameter.strip(), right, where)
    key = left.replace("-", "_")
    if key not in KEYS:
        raise UsageError(f"unknown key {left!r}", where=where, hint=f"one of: {', '.join(KEYS)}, or POLICY:parameter")
    ends = _range(right, where)
    if ends and key not in WHOLE:
        raise UsageError(f"{key} takes names, not a range", where=where, hint=f"{key}=A|B")
    if ends and not all(end == int(end) for end in ends):
        raise UsageError(f"{key} takes whole numbers", where=where, hint=f"{key}=1..8")
    found = [int(end) for end in ends] or _choices(right, where)
    values = tuple(_checked(key, each, where) for each in found)
    if ends:
        return Dimension(text, key, low=ends[0], high=ends[1], whole=True)
    return Dimension(text, key, choices=values)


def _constant(text: str, name: str, parameter: str, right: str, where: str) -> Dimension:
    found = policy_of(name, where)
    key = found.aliases.get(parameter, parameter)
    if key not in found.parameters:
        known = ", ".join(found.parameters) or "none"
        raise UsageError(f"{found.name} has no parameter {parameter!r}", where=where, hint=f"one of: {known}")
    if ends := _range(right, where):
        return Dimension(text, key, named(found), low=ends[0], high=ends[1])
    values = [_number(each) for each in _choices(right, where)]
    if not all(math.isfinite(value) for value in values):
        raise UsageError(f"{right!r} are not numbers", where=where, hint=f"{name}:{parameter}=1|2, or 1..2")
    return Dimension(text, key, named(found), choices=tuple(values))


def _range(right: str, where: str) -> tuple[float, float] | tuple[()]:
    """Return both ends of LO..HI; nothing where it is no range."""
    low, dots, high = right.partition("..")
    if not dots or "|" in right or re.search(r"[a-zA-Z_]{3}", right):
        return ()
    ends = _number(low), _number(high)
    if not all(map(math.isfinite, ends)):
        raise UsageError(f"{right!r} is not LO..HI", where=where, hint="two numbers, such as 16..256")
    if not ends[0] < ends[1]:
        raise UsageError(f"nothing lies from {low} to {high}", where=where, hint="the smaller number first")
    return ends


def _choices(right: str, where: str) -> list[str]:
    found = [each.strip() for each in right.split("|")]
    if not all(found):
        raise UsageError(f"{right!r} has an empty choice", where=where, hint="A|B|C")
    if len(set(found)) < len(found):
        raise UsageError(f"{right!r} has a choice twice", where=where, hint="each once")
    return found


def _checked(key: str, value: Value, where: str) -> Value:
    """Return a value as a scenario takes it."""
    if key == "policy":
        policy_of(str(value), where)
        return value
    if key in WHOLE and isinstance(value, str) and value.removeprefix("-").isdecimal():
        value = int(value)
    try:
        found: Value = getattr(Scenario.model_validate({key: value}), key)
    except ValidationError as error:
        refused = usage(error, None, {key}, Scenario.model_fields)
        raise UsageError(refused.what, where=where, hint=refused.hint) from error
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
