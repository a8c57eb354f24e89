"""Reads JSON, as lines or as one document, into a frame of text: what lies inside of objects has a path with dots.

What a cell must hold is for `check`.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import polars as pl

from lapsbench import files
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lapsbench.traces.source import Source

# Rust panics do not derive from Exception
POLARS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, MemoryError)


def frame(source: Source, text: bytes, wanted: tuple[str, ...]) -> pl.DataFrame:
    """Return the wanted columns of JSON lines, of every line that is not blank.

    Raises:
        LapsbenchError: a line is no JSON object.
    """
    try:
        rows = _read(text, wanted)
    except POLARS:
        objects = [_object(source, number, line) for number, line in _numbered(text)]
        try:
            rows = _read(lines(objects, wanted), wanted)
        except POLARS as error:
            what = f"does not read as JSON lines ({files.first_line(error)})"
            raise LapsbenchError(what, where=str(source.path), hint="one JSON object a line") from error
    return rows.select(_cells(name) for name in wanted)


def _read(text: bytes, wanted: tuple[str, ...]) -> pl.DataFrame:
    outermost = (name.partition(".")[0] for name in wanted)
    # io.BytesIO is required: plain bytes would be taken for a path
    return pl.read_ndjson(io.BytesIO(text), schema=dict.fromkeys((*wanted, *outermost), pl.String()))


def records(source: Source) -> list[dict[str, Any]]:
    """Return the objects of a file: those of its lines, or of its one document.

    Raises:
        LapsbenchError: one is no JSON object.
    """
    if source.container == "jsonl":
        return [_object(source, number, line) for number, line in _numbered(source.content)]
    try:
        document = _loaded(source.content)
    except (ValueError, RecursionError) as error:
        raise LapsbenchError(
            f"does not read as a list of JSON objects ({files.first_line(error)})",
            where=str(source.path),
            hint="[{...}, {...}], or one JSON object a line",
        ) from error
    found = document if isinstance(document, list) else [document]
    for number, record in enumerate(found, 1):
        if not isinstance(record, dict):
            raise _no_object(source, number, "not an object")
    return found


def lines(records: Iterable[dict[str, Any]], wanted: tuple[str, ...]) -> bytes:
    """Return records as JSON lines, as far as they are wanted."""
    outermost = {name for each in wanted for name in (each, each.partition(".")[0])}
    rows = ({name: value for name, value in record.items() if name in outermost} for record in records)
    return b"\n".join(json.dumps(row).encode() for row in rows)


def _cells(name: str) -> pl.Expr:
    """Return a column; with dots in its name the column of that name, else what lies at that path."""
    outermost, dot, path = name.partition(".")
    if not dot:
        return pl.col(name)
    steps = "".join(f"[{step}]" if step.isdecimal() else f"['{_quoted(step)}']" for step in path.split("."))
    return pl.coalesce(pl.col(name), pl.col(outermost).str.json_path_match(f"${steps}")).alias(name)


def _quoted(step: str) -> str:
    return step.replace("\\", "\\\\").replace("'", "\\'")


def _numbered(text: bytes) -> Iterable[tuple[int, bytes]]:
    return enumerate((line for line in text.split(b"\n") if line.strip()), 1)


def _object(source: Source, number: int, line: bytes) -> dict[str, Any]:
    try:
        found = _loaded(line)
    except (ValueError, RecursionError) as error:
        raise _no_object(source, number, files.first_line(error)) from error
    if not isinstance(found, dict):
        raise _no_object(source, number, "not an object")
    return found


def _loaded(text: bytes) -> Any:
    """Read what Python writes, too: NaN and Infinity are words, which no column of numbers takes."""
    return json.loads(text.decode(), parse_constant=str)


def _no_object(source: Source, number: int, reason: str) -> LapsbenchError:
    return LapsbenchError(
        f"is not a JSON object ({reason})",
        where=f"{source.path}, row {number}",
        hint="one JSON object a line; the last line may be cut short",
    )
