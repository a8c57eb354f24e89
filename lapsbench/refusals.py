"""What pydantic found wrong with a setting, in the words of every other error: what, where, what to try.

Knows nothing of which settings there are.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from lapsbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from pydantic import ValidationError

FLAGS = {"policies": "policy"}
"""Flags that are not called as their key."""
WORDS = {
    "refused": ("{what}", "{hint}"),
    "greater_than_equal": ("{value} is too small", "{ge} or more"),
    "greater_than": ("{value} is too small", "more than {gt:g}"),
    "less_than_equal": ("{value} is too large", "{le} or less"),
    "less_than": ("{value} is too large", "less than {lt}"),
    "literal_error": ("unknown value {value!r}", "{expected}"),
    "finite_number": ("{value} is not finite", "a finite number"),
    "int": ("{value!r} is not a whole number", "a whole number"),
    "float": ("{value!r} is not a number", "a number"),
    "string": ("{value!r} is not text", "text in quotes"),
    "tuple": ("{value!r} is not a list", "square brackets around it"),
}
"""What and hint for a kind of pydantic's errors, or for all kinds that begin so."""


def refusal(what: str, hint: str) -> PydanticCustomError:
    """Return what a validator raises."""
    return PydanticCustomError("refused", "{what}", {"what": what, "hint": hint})


def usage(error: ValidationError, path: Path | None, given: Collection[str], known: Collection[str]) -> UsageError:
    """Return the first thing that is wrong, as one line.

    Args:
        error: from validating the settings of a file and of flags together.
        path: the scenario file, if any.
        given: the keys that came as flags.
        known: all keys there are.
    """
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, known, 1)
        keys = ", ".join(known)
        hint = f"{near[0]} (the keys are {keys})" if near else f"one of: {keys}"
        return UsageError(f"unknown key {key!r}", where=str(path), hint=hint)
    what, hint = _in_words(first["type"], first["input"], first.get("ctx", {}), first["msg"])
    return UsageError(what, where=place(key, path, given) if key else str(path or "replay"), hint=hint)


def place(key: str, path: Path | None, given: Collection[str]) -> str:
    """Say where a setting stands: in the file, or as a flag."""
    if path is not None and key not in given:
        return f"{path}, key {key}"
    return f"--{FLAGS.get(key, key).replace('_', '-')}"


def _in_words(kind: str, value: object, limits: Mapping[str, Any], otherwise: str) -> tuple[str, str]:
    for start, (what, hint) in WORDS.items():
        if kind.startswith(start):
            facts = {**limits, "value": value}
            return what.format(**facts), hint.format(**facts)
    return f"{otherwise} (got {value!r})", "docs/cli.md"
