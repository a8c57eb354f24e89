"""Looks at a file before it is read: Parquet, CSV, JSON or JSON lines by content, and which columns it has.

Knows containers; what the columns mean is for the readers.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from lapsbench import files
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from pathlib import Path

Container = Literal["parquet", "csv", "jsonl", "json"]

_HEAD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A file and what its beginning tells: container and column names, in file order.

    Attributes:
        container: "json" is one document, over as many lines as it likes: a record, or a list of them.
        time_unit: of its stamps, as the user says; None: as the format has it.
    """

    path: Path
    container: Container
    columns: tuple[str, ...]
    time_unit: str | None = None

    def at(self, column: str, row: int | None = None) -> str:
        """Return "file, row, column" for an error; `row` counts rows of data from 1."""
        place = f"{self.path}, row {row}" if row is not None else str(self.path)
        return f"{place}, column {column!r}"

    def text(self) -> bytes:
        """Return the whole file, unpacked, without a byte-order mark.

        Raises:
            LapsbenchError: the file cannot be read.
        """
        return files.text(self.path)


def inspect(path: Path) -> Source:
    """Tell container and columns from the first bytes.

    Raises:
        LapsbenchError: no such file, not a file, not readable, empty, or neither Parquet nor text.
    """
    head = files.content(path, _HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return Source(path, "parquet", _parquet_columns(path))
    begins = head.removeprefix(files.BOM).lstrip()
    if begins.startswith((b"{", b"[")):
        return _json_source(path, begins)
    return Source(path, "csv", _header(_first_line(head, path), path))


def _json_source(path: Path, begins: bytes) -> Source:
    """Tell JSON lines from one document: in JSON lines the first line is a whole object."""
    line, newline, _ = begins.partition(b"\n")
    if not newline and len(begins) < _HEAD_BYTES // 2:
        pass  # the whole file is one line
    elif not newline:  # one line of more than the head: a benchmark's result
        line = files.text(path).lstrip().partition(b"\n")[0]
    whole = _try_json(line)
    if isinstance(whole, _Names):
        return Source(path, "jsonl", whole.names)
    document = _try_json(files.text(path))
    if isinstance(document, _Names):
        return Source(path, "json", document.names)
    if isinstance(document, list):
        names = document[0].names if document and isinstance(document[0], _Names) else ()
        return Source(path, "json", names)
    what = document if isinstance(document, str) else "not an object"
    raise LapsbenchError(
        f"is not a JSON object ({what})", where=f"{path}, row 1", hint="one JSON object a line, closed on its line"
    )


@dataclass(frozen=True, slots=True)
class _Names:
    """An object of which only the names are of interest, one that is there twice twice."""

    names: tuple[str, ...]


def _try_json(text: bytes) -> Any:
    """Return the JSON with names for objects; as text, why it is none."""
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _Names(tuple(str(name) for name, _ in pairs)))
    except (ValueError, RecursionError) as error:
        return files.first_line(error)


def _first_line(head: bytes, path: Path) -> str:
    where = str(path)
    start = head.removeprefix(files.BOM).lstrip()
    if not start:
        raise LapsbenchError("is empty", where=where, hint="a file with a header and at least one row")
    line, newline, _ = start.partition(b"\n")
    if b"\0" in head or (not newline and len(head) == _HEAD_BYTES):
        raise LapsbenchError("is not a text file", where=where, hint="Parquet, or CSV or JSON lines in UTF-8")
    try:
        return line.decode().strip()
    except UnicodeDecodeError as error:
        raise LapsbenchError(
            f"is not UTF-8 text (byte {error.start + 1} of the first line)",
            where=where,
            hint="saving it as UTF-8, or as Parquet",
        ) from error


def _header(line: str, path: Path) -> tuple[str, ...]:
    try:
        return tuple(name.strip() for name in next(csv.reader([line])))
    except (csv.Error, StopIteration) as error:
        raise LapsbenchError(
            f"the header does not read as CSV ({error})", where=str(path), hint="column names between commas"
        ) from error


def _parquet_columns(path: Path) -> tuple[str, ...]:
    try:
        return tuple(pq.read_schema(files.parquet(path)).names)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise LapsbenchError(
            f"is Parquet, but truncated or damaged ({files.first_line(error)})",
            where=str(path),
            hint="copying or writing it again",
        ) from error
