"""The JSON records of a file, one a line or one document of them, and careful looks into them.

Whatever is wrong with a record is told by file and row; rows count from 1, blank lines not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench import files
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lapsbench.core import Longs


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON object of a file."""

    values: Mapping[str, Any]
    path: Path
    row: int

    @property
    def where(self) -> str:
        """The place, for errors."""
        return f"{self.path}, row {self.row}"

    @property
    def unanswered(self) -> str:
        """Why it has no answer: "errors" where the request failed, else an empty text."""
        return "errors" if self.values.get("error") else ""

    def text(self, *names: str) -> str:
        """Return the first of these values that is there, as text; "" where none is."""
        return next((str(self.values[name]) for name in names if self.values.get(name) is not None), "")

    def fail(self, what: str, hint: str = "the file as its engine wrote it") -> LapsbenchError:
        """Return an error at this record."""
        return LapsbenchError(what, where=self.where, hint=hint)

    def count(self, value: object, name: str) -> int:
        """Return a value that must be a whole number from 0 up.

        Raises:
            LapsbenchError: it is none.
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**31 or value % 1:
            raise self.fail(f"{name} is {_shown(value)}, not a count")
        return int(value)

    def optional(self, value: object, name: str) -> int | None:
        """Return a value that is a whole number from 0 up, or is not there.

        Raises:
            LapsbenchError: it is something else.
        """
        return None if value is None else self.count(value, name)

    def part(self, *names: str) -> dict[str, Any]:
        """Return the object at this path; an empty one where there is none."""
        found: object = self.values
        for name in names:
            found = found.get(name) if isinstance(found, Mapping) else None
            found = found[0] if isinstance(found, list) and found else found
        return found if isinstance(found, dict) else {}

    def counts(self, value: object, name: str, *, least: int = 0) -> Longs:
        """Return a list that must hold whole numbers from `least` up.

        Raises:
            LapsbenchError: it is no list, or holds something else.
        """
        if not isinstance(value, list):
            raise self.fail(f"{name} is {_shown(value)}, not a list")
        try:
            numbers = np.array(value or [], dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            raise self.fail(f"{name} holds something that is not a number") from None
        bad = (
            ~((numbers >= least) & (numbers < 2**31) & (numbers == np.floor(numbers)))
            if numbers.ndim == 1
            else np.array([True])
        )
        if bad.any():
            shown = _shown(value[int(np.argmax(bad))])
            raise self.fail(f"{name} holds {shown}, not a whole number from {least} up")
        return numbers.astype(np.int64)

    def totals(self, accepted: object, rounds: object) -> tuple[int, int] | None:
        """Return accepted drafts and rounds, where both are told.

        Raises:
            LapsbenchError: one is no count.
        """
        if accepted is None or rounds is None:
            return None
        return self.count(accepted, "accepted drafts"), self.count(rounds, "rounds")

    def parts(self, value: object, name: str) -> list[Any]:
        """Return a value that must be a list.

        Raises:
            LapsbenchError: it is none.
        """
        if not isinstance(value, list):
            raise self.fail(f"{name} is {_shown(value)}, not a list")
        return value


def read_records(path: Path, text: bytes) -> list[Record]:
    """Return the objects of JSON lines, or of one JSON document: an object, or a list of them.

    Raises:
        LapsbenchError: the text holds something else.
    """
    lines = [line for line in text.split(b"\n") if line.strip()]
    if not lines:
        raise LapsbenchError("is empty", where=str(path), hint="a file with at least one record")
    if _reason(lines[0]):  # the first line is no object: not JSON lines, or damaged
        document = _document(text)
        if document is not None:
            return [_record(value, path, row) for row, value in enumerate(document, 1)]
    return [_record(_parsed(line, path, row), path, row) for row, line in enumerate(lines, 1)]


def _document(text: bytes) -> Sequence[Any] | None:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return whole if isinstance(whole, list) else [whole]


def _parsed(line: bytes, path: Path, row: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LapsbenchError(
            f"is not JSON ({files.first_line(error)})",
            where=f"{path}, row {row}",
            hint="one JSON object a line; the last line may be cut short",
        ) from error


def _record(value: object, path: Path, row: int) -> Record:
    if not isinstance(value, dict):
        raise LapsbenchError("is not a JSON object", where=f"{path}, row {row}", hint="one JSON object a line")
    return Record(value, path, row)


def _reason(line: bytes) -> bool:
    try:
        return not isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return True


def _shown(value: object) -> str:
    return repr(value)[:40]
