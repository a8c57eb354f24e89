"""Writes a trace in our own format: Parquet, CSV or JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from lapsbench import files
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.schema import TRACE, TRACE_OPTIONAL, write_parquet

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.core import Trace

SUFFIXES = (".parquet", ".csv", ".jsonl")


def write_trace(trace: Trace, path: Path) -> None:
    """Write `trace` in the format of the file's suffix; only Parquet keeps the provenance.

    Raises:
        UsageError: another suffix.
        LapsbenchError: the file cannot be written.
    """
    refuse_suffix(path)
    if path.suffix == ".parquet":
        save_trace(trace, path)
        return
    frame = pl.DataFrame(pl.from_arrow(_table(trace)))
    with files.whole(path) as part:
        if path.suffix == ".csv":
            frame.write_csv(part)
        else:
            frame.write_ndjson(part)


def refuse_suffix(path: Path) -> None:
    """Refuse a file of a format that is not written.

    Raises:
        UsageError: its suffix is none of `SUFFIXES`.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"cannot write {path.suffix or 'a file without suffix'}",
            where=str(path),
            hint=f"one of {', '.join(SUFFIXES)}",
        )


def refuse_existing(path: Path) -> None:
    """Refuse to write over a file.

    Raises:
        LapsbenchError: there is one.
    """
    if path.exists():
        raise LapsbenchError("is there already", where=str(path), hint="another name, or --force to write over it")


def save_trace(trace: Trace, path: Path) -> None:
    """Write `trace` as `trace/1` with its provenance; same trace, same bytes.

    Raises:
        LapsbenchError: the file cannot be written.
    """
    write_parquet(_table(trace), path, "trace", trace.provenance)


def _table(trace: Trace) -> pa.Table:
    fields = list(TRACE) + [extra for extra in TRACE_OPTIONAL if getattr(trace, extra.name) is not None]
    columns = [pa.array(getattr(trace, wanted.name), type=wanted.type) for wanted in fields]
    return pa.table(columns, schema=pa.schema(fields))
