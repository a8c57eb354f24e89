"""Reads the columns a format asks for into a polars frame; text stays text, so that a bad cell can be quoted.

Knows CSV and Parquet, and `json_rows` JSON; what a cell must hold is for `check`.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lapsbench import files, schema
from lapsbench.errors import LapsbenchError
from lapsbench.traces import json_rows
from lapsbench.traces.json_rows import POLARS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lapsbench.traces.source import Source


@dataclass(frozen=True, slots=True)
class Table:
    """The columns a format asked for, of every row that is not blank; row i of the frame is row i + 1 to a person."""

    source: Source
    frame: pl.DataFrame
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


def read_table(
    source: Source, required: tuple[str, ...], optional: tuple[str, ...], text: tuple[str, ...] = ()
) -> Table:
    """Read the required columns, and those of the optional ones that are there; as `text` those that hold words.

    Raises:
        LapsbenchError: the file does not read as what it looks like.
    """
    # rows of JSON may bring keys the first one lacks
    anywhere = (*required, *optional)
    there = (*required, *(name for name in optional if name in source.columns))
    match source.container:
        case "parquet":
            return _parquet(source, there, text)
        case "jsonl":
            return _jsonl(source, source.content, anywhere)
        case "json":
            return table_of(source, json_rows.records(source), anywhere)
        case "csv":
            return _csv(source, there)


def count(number: int, noun: str) -> str:
    """Return "1 row", "2 rows"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _csv(source: Source, wanted: tuple[str, ...]) -> Table:
    # polars skips what is blank before a header, and takes it for a row of one value where there is none
    data = source.content if source.has_header else source.content.lstrip(b"\r\n")
    try:
        whole = pl.read_csv(io.BytesIO(data), infer_schema=False, has_header=source.has_header)
    except POLARS as error:
        _refuse_csv(source, data, error)
    if whole.width != len(source.columns):
        raise LapsbenchError("the header does not read as CSV", where=str(source.path), hint="one line of column names")
    # by position: polars renames columns that are there twice
    frame = pl.DataFrame([whole.to_series(source.columns.index(name)).alias(name) for name in wanted])
    if all(frame[name].null_count() for name in wanted):
        blank = whole.select(pl.all_horizontal(pl.all().is_null())).to_series()
        frame = frame.filter(~blank)
        return Table(source, frame, (f"{count(int(blank.sum()), 'blank line')}: skipped",) if blank.any() else ())
    return Table(source, frame)


def _refuse_csv(source: Source, data: bytes, error: BaseException) -> NoReturn:
    """Say which row it was: polars does not."""
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode(), newline="")) if row][source.has_header :]
    except UnicodeDecodeError as broken:
        line = data[: broken.start].count(b"\n") + 1
        raise LapsbenchError("is not UTF-8", where=f"{source.path}, line {line}", hint="saving it as UTF-8") from error
    except csv.Error:
        rows = []
    width = len(source.columns)
    for number, row in enumerate(rows, 1):
        if len(row) > width:
            raise LapsbenchError(
                f"has {len(row)} values, the {'header names' if source.has_header else 'first row has'} {width}",
                where=f"{source.path}, row {number}",
                hint="quoting values that hold a comma",
            ) from error
    raise LapsbenchError(
        f"does not read as CSV ({files.first_line(error)})",
        where=str(source.path),
        hint="closing every quote, one row a line",
    ) from error


def _jsonl(source: Source, lines: bytes, wanted: tuple[str, ...]) -> Table:
    frame = json_rows.frame(source, lines, wanted)
    # a JSON text holds no bare newline: what is not a row is a blank line
    blank = len(lines.rstrip(b"\r\n \t").split(b"\n")) - frame.height if frame.height else 0
    frame = frame.select(name for name in wanted if frame[name].null_count() < frame.height)
    return Table(source, frame, (f"{count(blank, 'blank line')}: skipped",) if blank else ())


def table_of(source: Source, records: Iterable[dict[str, Any]], wanted: tuple[str, ...]) -> Table:
    """Return those of the wanted columns that hold a value in some record."""
    return _jsonl(source, json_rows.lines(records, wanted), wanted)


def _parquet(source: Source, wanted: tuple[str, ...], text: tuple[str, ...]) -> Table:
    try:
        found = pq.read_schema(pa.BufferReader(source.content))
        fields = pa.schema([(name, pa.string() if name in text else _as_read(name, found)) for name in wanted])
        table = schema.read_parquet(source.path, "trace", fields, content=source.content)
        # polars trusts what it is handed: damaged strings or metadata would panic in Rust, on stderr
        table.validate(full=True)
        frame = pl.DataFrame(pl.from_arrow(table.replace_schema_metadata(None)))
        return Table(source, frame, provenance=schema.provenance(table))
    except (pa.ArrowException, KeyError, ValueError, OSError, *POLARS) as error:
        raise LapsbenchError(
            f"is Parquet, but damaged ({files.first_line(error)})",
            where=str(source.path),
            hint="copying or writing it again",
        ) from error


def _as_read(name: str, found: pa.Schema) -> pa.DataType:
    """Return the type to read a column as: tokens as float64, so that `check` and not the cast finds the bad row."""
    ours = {each.name: each.type for each in schema.TRACE_OPTIONAL}
    if name in ours:
        return ours[name]
    there = found.field(name).type if found.names.count(name) == 1 else pa.float64()
    if pa.types.is_timestamp(there):
        return pa.timestamp("ns", there.tz)
    if pa.types.is_integer(there) or pa.types.is_float32(there):
        return there  # as it lies: nanoseconds since 1970 are more than a float64 holds
    return pa.string() if pa.types.is_string(there) or pa.types.is_large_string(there) else pa.float64()
