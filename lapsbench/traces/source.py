"""Looks at a file before it is read: Parquet, CSV or JSONL by content, and which columns it has.

Knows containers; what the columns mean is for the readers.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from pathlib import Path

Container = Literal["parquet", "csv", "jsonl"]

_HEAD_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


@dataclass(frozen=True, slots=True)
class Source:
    """A file and what its beginning tells: container and column names, in file order."""

    path: Path
    container: Container
    columns: tuple[str, ...]

    def at(self, column: str, row: int | None = None) -> str:
        """Return "file, row, column" for an error; `row` counts rows of data from 1."""
        place = f"{self.path}, row {row}" if row is not None else str(self.path)
        return f"{place}, column {column!r}"

    def text(self) -> bytes:
        """Return the whole file, without a byte-order mark.

        Raises:
            LapsbenchError: the file cannot be read.
        """
        return _bytes(self.path, -1).removeprefix(_BOM)


def inspect(path: Path) -> Source:
    """Tell container and columns from the first bytes.

    Raises:
        LapsbenchError: no such file, not a file, not readable, empty, or neither Parquet nor text.
    """
    head = _bytes(path, _HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return Source(path, "parquet", _parquet_columns(path))
    line = _first_line(head, path)
    if line.startswith("{"):
        return Source(path, "jsonl", _keys(line, path))
    return Source(path, "csv", _header(line, path))


def _bytes(path: Path, count: int) -> bytes:
    where = str(path)
    try:
        if path.is_dir():
            raise LapsbenchError("is a folder, not a trace", where=where, hint="the path of one file in it")
        if path.exists() and not path.is_file():
            raise LapsbenchError("is not a regular file", where=where, hint="saving it to a file first")
        with path.open("rb") as file:
            return file.read(count)
    except FileNotFoundError as error:
        raise LapsbenchError("no such file", where=where, hint="the full path of the file") from error
    except PermissionError as error:
        raise LapsbenchError("no permission to read it", where=where, hint=f"chmod +r {path}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise LapsbenchError(f"cannot be opened ({error})", where=repr(where), hint="another path") from error


def _first_line(head: bytes, path: Path) -> str:
    where = str(path)
    for magic, packing in _PACKED.items():
        if head.startswith(magic):
            raise LapsbenchError(f"is compressed ({packing})", where=where, hint="unpacking it first")
    content = head.removeprefix(_BOM).lstrip()
    if not content:
        raise LapsbenchError("is empty", where=where, hint="a file with a header and at least one row")
    line, newline, _ = content.partition(b"\n")
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


def _keys(line: str, path: Path) -> tuple[str, ...]:
    try:
        # a list of pairs keeps a name that is there twice
        pairs = json.loads(line, object_pairs_hook=lambda pairs: [str(name) for name, _ in pairs])
    except (ValueError, RecursionError) as error:
        raise LapsbenchError(
            f"is not a JSON object ({error})", where=f"{path}, row 1", hint="one JSON object a line, closed on its line"
        ) from error
    return tuple(pairs)


def _parquet_columns(path: Path) -> tuple[str, ...]:
    try:
        return tuple(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise LapsbenchError(
            f"is Parquet, but truncated or damaged ({reason})", where=str(path), hint="copying or writing it again"
        ) from error
