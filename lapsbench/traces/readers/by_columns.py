"""A file of any layout, by the columns its user names: `--columns arrival=ts,prompt=in,output=out --time-unit ms`."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lapsbench.errors import LapsbenchError
from lapsbench.traces import causes, clock, moments, served
from lapsbench.traces.frame import count, read_table
from lapsbench.traces.readers.log import requests

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.clock import Arrivals
    from lapsbench.traces.columns import Columns, Ok
    from lapsbench.traces.frame import Table
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source

NAME = "columns"
_SHOWN = 12


def read_chosen(source: Source, columns: Columns, failed: Failed) -> Trace:
    """Return the rows of a file whose columns are named by its user.

    Args:
        source: the file.
        columns: which of its columns to read.
        failed: what becomes of requests that failed.

    Raises:
        UsageError: a unit for arrivals that have none.
        LapsbenchError: a column the file does not have, or a value that cannot be read.
    """
    wanted = tuple(dict.fromkeys((*columns.required, *columns.optional)))
    if source.container == "csv" and all(name.isdecimal() for name in wanted) and set(wanted) - set(source.columns):
        source = replace(source, columns=tuple(str(i + 1) for i in range(len(source.columns))), has_header=False)
    if source.container in ("csv", "parquet"):
        _refuse_missing(source, wanted, source.columns)
    table = read_table(source, wanted, (), text=columns.text)
    _refuse_missing(source, wanted, table.frame.columns)
    if not source.has_header:
        table = _without_header(table, columns)
    _refuse_unknown_end(table, columns.ok)
    return requests(table, NAME, columns, _arrivals(table, columns.arrival), failed)


def _refuse_missing(source: Source, wanted: tuple[str, ...], there: list[str] | tuple[str, ...]) -> None:
    missing = [name for name in wanted if name not in there]
    if not missing:
        return
    if missing[0] in source.columns:
        raise LapsbenchError("every value is missing", where=source.at(missing[0]), hint="another column")
    if source.container == "csv" and (cause := causes.of_header(source.columns)):
        raise LapsbenchError(cause[0], where=str(source.path), hint=cause[1])
    likely = get_close_matches(missing[0], source.columns, _SHOWN, 0.0)
    found = ", ".join(repr(name[:60]) for name in source.columns if name in likely) or "none"
    what = f"has no column {missing[0]!r}; it has {found}"
    hint = (
        "--columns with the names of its header, the paths of its JSON, or, without a header, the positions from 1 on"
    )
    raise LapsbenchError(what, where=str(source.path), hint=hint)


def _without_header(table: Table, columns: Columns) -> Table:
    """Leave out a first line that names the columns: neither of its tokens is a number."""
    first = table.frame.select(columns.prompt, columns.output).head(1)
    if not first.height or any(first.row(0)[i] is None for i in range(2)):
        return table
    if first.select(pl.all().str.strip_chars().cast(pl.Float64, strict=False).is_null().all()).row(0) != (True, True):
        return table
    notes = (*table.notes, f"{count(1, 'line')} without numbers: taken for the header")
    return replace(table, frame=table.frame.slice(1), notes=notes)


def _refuse_unknown_end(table: Table, ok: Ok | None) -> None:
    """Refuse a filter that lets nobody through: a typing error, most likely."""
    if ok is None or not table.frame.height or not served.failures(table, ok).all():
        return
    ends = table.frame[ok.column].fill_null("").unique(maintain_order=True).head(_SHOWN)
    raise LapsbenchError(
        f"no row holds {' or '.join(map(repr, ok.values))}; it holds {', '.join(repr(end[:40]) for end in ends)}",
        where=table.source.at(ok.column),
        hint=f"--columns with ok={ok.column}:VALUE, or VALUE|VALUE",
    )


def _arrivals(table: Table, column: str) -> Arrivals:
    """Read numbers as seconds, if nothing else was said; without a column everybody is there from the start."""
    if not column:
        return clock.Arrivals(np.zeros(table.frame.height))
    return clock.arrivals(table, column, None if moments.are_moments(table.frame[column]) else "s")
