"""Which columns of a file hold what: `arrival=ts,prompt=in,output=out,ok=status:ok`, and the unit of the arrivals."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from lapsbench.errors import UsageError

if TYPE_CHECKING:
    from lapsbench.core import Floats

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
"""Seconds in each."""
WORDS = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "min": "minutes",
    "h": "hours",
}
_EXAMPLE = "arrival=ts,prompt=in,output=out"


@dataclass(frozen=True, slots=True)
class Ok:
    """A column that says which requests succeeded, and the values by which it says so; "" is no value."""

    column: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Ok:
        """Read COLUMN:VALUE or COLUMN:VALUE|VALUE; COLUMN: is a column that holds nothing where all went well.

        Raises:
            UsageError: there is no colon.
        """
        column, colon, values = text.rpartition(":")
        if not colon or not column:
            raise UsageError(f"ok={text} is not ok=COLUMN:VALUE", where="--columns", hint="ok=status:ok")
        return cls(column, tuple(value.strip().lower() for value in values.split("|")))


@dataclass(frozen=True, slots=True)
class Columns:
    """The name each part of a trace has in a file; only prompt and output are in all of them."""

    arrival: str
    prompt: str
    output: str
    category: str | None = None
    client: str | None = None
    prompt_id: str | None = None
    predicted: str | None = None
    priority: str | None = None
    ok: Ok | None = None

    @classmethod
    def parse(cls, text: str, *, arrivals: bool = True) -> Columns:
        """Read KEY=COLUMN,...; without `arrivals` that key may be left out, and is empty then.

        Raises:
            UsageError: a key that means nothing or is there twice, or one that is missing.
        """
        named: dict[str, str] = {}
        keys = [field.name for field in fields(cls)]
        for part in text.split(","):
            key, equals, name = (piece.strip() for piece in part.partition("="))
            if not equals or not name:
                raise UsageError(f"{part!r} is not KEY=COLUMN", where="--columns", hint=_EXAMPLE)
            if key not in keys:
                raise UsageError(f"unknown key {key!r}", where="--columns", hint=f"one of: {', '.join(keys)}")
            if key in named:
                raise UsageError(f"{key} is there twice", where="--columns", hint=_EXAMPLE)
            named[key] = name
        missing = [key for key in keys[:3] if key not in named and (arrivals or key != "arrival")]
        if missing:
            raise UsageError(f"says nothing of {' and '.join(missing)}", where="--columns", hint=_EXAMPLE)
        ok = Ok.parse(named.pop("ok")) if "ok" in named else None
        return cls(**{"arrival": "", **named}, ok=ok)

    @property
    def required(self) -> tuple[str, ...]:
        """Columns a file must have."""
        return tuple(name for name in (self.arrival, self.prompt, self.output) if name)

    @property
    def optional(self) -> tuple[str, ...]:
        """Further columns to read."""
        return (*self.text, *(name for name in (self.predicted, self.priority) if name))

    @property
    def text(self) -> tuple[str, ...]:
        """Those of them that hold words."""
        names = (self.category, self.client, self.prompt_id, self.ok and self.ok.column)
        return tuple(name for name in names if name)


def seconds_per(unit: str) -> float:
    """Return the seconds in a unit of time.

    Raises:
        UsageError: no such unit.
    """
    if unit not in UNITS:
        raise UsageError(f"unknown unit {unit!r}", where="--time-unit", hint=f"one of: {', '.join(UNITS)}")
    return UNITS[unit]


def in_seconds(values: Floats, unit: str) -> Floats:
    """Return values of a unit in seconds; divided where it is a part of one, which rounds once."""
    per = seconds_per(unit)
    scaled: Floats = values * per if per >= 1 else values / round(1 / per)
    return scaled
