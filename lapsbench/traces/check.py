"""Checks the cells of a table, column by column: a bad one is named by file, row and column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lapsbench.core import PRIORITY_MOST, TOKENS_MOST
from lapsbench.errors import LapsbenchError
from lapsbench.traces import causes
from lapsbench.traces.frame import count

if TYPE_CHECKING:
    from lapsbench.core import Bools, Floats, Ints, Strings
    from lapsbench.traces.frame import Table


def times(table: Table, column: str) -> Floats:
    """Return float64 [N], finite and not negative: seconds, milliseconds or predicted tokens.

    Raises:
        LapsbenchError: a value is missing, no number, infinite or negative.
    """
    values = _numbers(table, column)
    refuse(table, column, values < 0, "is negative", hint="values from 0 up")
    return values.to_numpy(writable=True)


def tokens(table: Table, column: str, *, least: int, absent: Bools | None = None) -> Ints:
    """Return int32 [N], whole numbers from `least` to `TOKENS_MOST`; 0 for a missing value where it may be `absent`.

    Raises:
        LapsbenchError: a value is missing, no number, not whole, too small or too large.
    """
    values = _numbers(table, column, absent)
    refuse(table, column, values != values.floor(), "is not a whole number", hint="counts of tokens")
    refuse(table, column, values < least, f"is less than {least}", hint=f"correcting or deleting rows below {least}")
    what = f"is more than {TOKENS_MOST:,} tokens, which no model takes"
    refuse(table, column, values > TOKENS_MOST, what, hint="checking what the column holds, or deleting the row")
    return values.cast(pl.Int32).to_numpy(writable=True)


def outputs(table: Table, column: str) -> Ints:
    """Return int32 [N] as `tokens` does, 0 where somebody else's log tells none: such a request failed.

    Raises:
        LapsbenchError: as for `tokens`; or no row has a value.
    """
    return tokens(table, column, least=0, absent=np.ones(table.frame.height, dtype=np.bool_))


def priorities(table: Table, column: str | None) -> Ints | None:
    """Return int32 [N], whole numbers, 0 where a value is missing; None where the file has no such column.

    Raises:
        LapsbenchError: a value is no number, not whole, or beyond `PRIORITY_MOST`.
    """
    if column not in table.frame.columns:
        return None
    values = _numbers(table, column, np.ones(table.frame.height, dtype=np.bool_))
    refuse(table, column, values != values.floor(), "is not a whole number", hint="0, 1, 2: lower is more urgent")
    refuse(table, column, values.abs() > PRIORITY_MOST, f"is beyond {PRIORITY_MOST:,}", hint="small numbers")
    return values.cast(pl.Int32).to_numpy(writable=True)


def strings(table: Table, column: str | None) -> Strings | None:
    """Return strings [N], "" where a value is missing; None where the file has no such column."""
    if column not in table.frame.columns:
        return None
    return table.frame[column].fill_null("").to_numpy().astype(object, copy=False)


def origin(table: Table, reader: str) -> dict[str, Any]:
    """Return what is known of a file's origin: its name, its format, how many rows were read."""
    return {"file": table.source.path.name, "format": reader, "rows_read": table.frame.height}


def refuse(table: Table, column: str, bad: pl.Series, what: str, *, hint: str) -> None:
    """Raise for the first row where `bad`, and say how many more there are.

    Raises:
        LapsbenchError: there is one.
    """
    if not bad.any():
        return
    rows = np.flatnonzero(bad.to_numpy())
    value = table.frame[column][int(rows[0])]
    shown = "the value is missing" if value is None else f"{_shown(value)} {what}"
    more = f" (and {count(len(rows) - 1, 'more row')})" if len(rows) > 1 else ""
    raise LapsbenchError(f"{shown}{more}", where=table.source.at(column, int(rows[0]) + 1), hint=hint)


def _shown(value: object) -> str:
    return repr(value[:40] if isinstance(value, str) else value)


def _numbers(table: Table, column: str, absent: Bools | None = None) -> pl.Series:
    """Return float64 [N] without null, NaN or infinity; 0 for a missing value where it may be `absent`."""
    if column not in table.frame.columns:  # JSONL, named in no row
        raise LapsbenchError("every value is missing", where=table.source.at(column), hint="filling the column")
    cells = table.frame[column]
    values = cells.cast(pl.Float64, strict=False)
    if cells.dtype == pl.String and values.null_count():  # " 10" is a number to a person
        cells = cells.str.strip_chars()
        values = cells.cast(pl.Float64, strict=False)
    if absent is not None and values.null_count():
        missing = cells.is_null() | (cells.cast(pl.String) == "")
        values = values.zip_with(~(missing & pl.Series(absent)), pl.Series([0.0]))
    bad = values.is_null() | values.is_nan()
    if bad.any():
        what, hint = causes.of_number(cells[int(bad.arg_max() or 0)])
        refuse(table, column, bad, what, hint=hint)
    refuse(table, column, values.is_infinite(), "is infinite", hint="finite numbers")
    return values
