"""The command that replays a scenario: its settings that are not the defaults, as flags.

Made from the settings and not from what was typed, so the same run has the same manifest wherever it was kept.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lapsbench.scenario import Scenario


def as_command(scenario: Scenario) -> str:
    """Return one shell line, without `--out` and what else changes no result."""
    return shlex.join(["lapsbench", "replay", *_flags(scenario)])


def _flags(scenario: Scenario) -> Iterator[str]:
    for key, field in type(scenario).model_fields.items():
        value = getattr(scenario, key)
        if value == field.default:
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
