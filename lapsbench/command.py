"""The command that replays or serves a scenario: its settings that are not the defaults, as flags.

Made from the settings and not from what was typed, so the same run has the same manifest wherever it was kept.
"""

from __future__ import annotations

import shlex
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from lapsbench.scenario import Scenario


def as_command(scenario: Scenario, verb: str = "replay", own: Mapping[str, str | None] = MappingProxyType({})) -> str:
    """Return one shell line, without `--out` and what else changes no result; `own`: flags of the verb alone."""
    first = [part for name, value in own.items() if value is not None for part in (f"--{name}", value)]
    return shlex.join(["lapsbench", verb, *first, *_flags(scenario, own)])


def _flags(scenario: Scenario, given: Collection[str]) -> Iterator[str]:
    for key, field in type(scenario).model_fields.items():
        value = getattr(scenario, key)
        if value == field.default or key in given:
            continue
        if key == "policies":
            for policy in value:
                yield from ("--policy", policy)
        else:
            yield from (f"--{key.replace('_', '-')}", _text(key, value))


def _text(key: str, value: Any) -> str:
    if isinstance(value, tuple):
        return (":" if key == "window" else ",").join(f"{each:.12g}" for each in value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)
