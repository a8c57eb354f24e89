"""Looks at a file before it is read: Parquet, CSV, JSON or JSON lines by content, and which columns it has.

Knows containers; what the columns mean is for the readers. The file is opened once, so that a pipe will do.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from lapsbench import files
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Iterable

Container = Literal["parquet", "csv", "jsonl", "json"]

_HEAD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A file, and what its beginning tells: container and column names, in file order.

    Attributes:
        path: what it is called; of a pipe, a word.
        container: "json" is one document, over as many lines as it likes: a record, or a list of them.
        columns: of JSON all names in the first megabyte of records, and the dotted paths to those inside: "a", "a.b".
        content: all of it, unpacked, without a byte-order mark.
        has_header: whether the first line of a CSV file names the columns; else they are called "1", "2", ...
        row: what one of its rows is called.
        time_unit: of its stamps, as the user says; None: as the format has it.
    """

    path: Path
    container: Container
    columns: tuple[str, ...]
    content: bytes = field(repr=False)
    has_header: bool = True
    row: str = "row"
    time_unit: str | None = None

    def at(self, column: str, row: int | None = None) -> str:
        """Return "file, row, column" for an error; `row` counts rows of data from 1."""
        place = f"{self.path}, {self.row} {row}" if row is not None else str(self.path)
        return f"{place}, column {column!r}"

    def names(self) -> str:
        """Return its columns for an error; not what is inside of them, and no more than fit."""
        outermost = [name for name in self.columns if name.rpartition(".")[0] not in self.columns]
        return ", ".join(repr(name[:40]) for name in outermost[:12]) or "none"


def inspect(path: Path) -> Source:
    """Open a file and tell its container and columns.

    Raises:
        LapsbenchError: no such file, not a file, not readable, empty, or neither Parquet nor text.
    """
    content = files.content(path)
    path = Path(files.shown(path))
    if content.startswith(b"PAR1"):
        return Source(path, "parquet", _parquet_columns(content, path), content)
    content = content.removeprefix(files.BOM)
    head = content[:_HEAD_BYTES].lstrip()
    if head.startswith((b"{", b"[")):
        return _json_source(path, content, head)
    return Source(path, "csv", _header(_first_line(head, path), path), content)


def _json_source(path: Path, content: bytes, head: bytes) -> Source:
    """Tell JSON lines from one document: in JSON lines the first line is a whole object."""
    first = _try_json(head.partition(b"\n")[0] if b"\n" in head else content.lstrip().partition(b"\n")[0])
    if isinstance(first, _Names):
        rows = [first, *(_try_json(line) for line in head.split(b"\n")[1:])]
        return Source(path, "jsonl", _names_in(rows), content)
    document = _try_json(content)
    if isinstance(document, _Names):
        return Source(path, "json", document.names, content)
    if isinstance(document, list):
        return Source(path, "json", _names_in(document), content)
    what = document if isinstance(document, str) else "not an object"
    raise LapsbenchError(
        f"is not a JSON object ({what})", where=f"{path}, row 1", hint="one JSON object a line, closed on its line"
    )


@dataclass(frozen=True, slots=True)
class _Names:
    """An object of which only the names are of interest, those inside as dotted paths; what is there twice, twice."""

    names: tuple[str, ...]


def _names_in(rows: Iterable[Any]) -> tuple[str, ...]:
    """Return the names that any of the rows has, as often as the one that has it most often."""
    found: Counter[str] = Counter()
    for names in dict.fromkeys(row.names for row in rows if isinstance(row, _Names)):
        found |= Counter(names)
    return tuple(found.elements())


def _names(pairs: list[tuple[str, Any]]) -> _Names:
    return _Names(tuple(chain.from_iterable((name, *_inside(name, value)) for name, value in pairs)))


def _inside(name: str, value: Any) -> Iterable[str]:
    return (f"{name}.{each}" for each in value.names) if isinstance(value, _Names) else ()


def _try_json(text: bytes) -> Any:
    """Return the JSON with names for objects; as text, why it is none."""
    try:
        return json.loads(text.decode(), object_pairs_hook=_names)  # of bytes, it would read UTF-16, too
    except (ValueError, RecursionError) as error:
        return files.first_line(error)


def _first_line(head: bytes, path: Path) -> str:
    where = str(path)
    if not head:
        raise LapsbenchError("is empty", where=where, hint="a file with a header and at least one row")
    line, newline, _ = head.partition(b"\n")
    if b"\0" in head or (not newline and len(head) > _HEAD_BYTES // 2):
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


def _parquet_columns(content: bytes, path: Path) -> tuple[str, ...]:
    try:
        return tuple(pq.read_schema(pa.BufferReader(content)).names)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise LapsbenchError(
            f"is Parquet, but truncated or damaged ({files.first_line(error)})",
            where=str(path),
            hint="copying or writing it again",
        ) from error
