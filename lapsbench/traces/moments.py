"""Reads text that names moments of time, as `2023-11-16 18:15:46.6805900` or `2024-05-12T08:47:44,02+00:00`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from lapsbench.core import PART
from lapsbench.traces import check

if TYPE_CHECKING:
    from lapsbench.core import Floats
    from lapsbench.traces.frame import Table

# int64 nanoseconds wrap around silently outside 1677..2262: only years well inside may reach the parser
_CLOCK = r"^(19|20|21)\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d([.,]\d{1,9})?"
_ZONE = r"(Z|[+-]\d\d:?\d\d)$"


def are_moments(cells: pl.Series) -> bool:
    """Whether a column holds moments and not numbers; its first value tells."""
    if cells.dtype == pl.Datetime:
        return True
    first = cells[0] if len(cells) and cells.dtype == pl.String else None
    return bool(first and pl.Series([first.strip()]).str.contains(_CLOCK)[0])


def seconds(table: Table, column: str) -> Floats:
    """Return float64 [N], seconds since the earliest row; the first row tells whether all have a zone.

    Raises:
        LapsbenchError: a value is missing or no moment, or only some have a zone.
    """
    cells = table.frame[column]
    if not len(cells):
        return np.zeros(0)
    moments = cells if cells.dtype == pl.Datetime else _parsed(table, column, cells)
    check.refuse(table, column, moments.is_null(), "is not a time", hint="a time in every row")
    nanoseconds = moments.dt.epoch("ns").to_numpy()
    since_first_s: Floats = (nanoseconds - nanoseconds.min()) / 1e9
    return since_first_s


def _parsed(table: Table, column: str, text: pl.Series) -> pl.Series:
    zoned = bool(pl.Series([(text[0] or "").strip()]).str.contains(_ZONE)[0])
    shape = _CLOCK + (_ZONE if zoned else "$")
    bad = ~text.str.contains(shape).fill_null(value=False)
    if bad.any():  # only now: a copy of every stamp is 40 bytes a row
        text = text.str.strip_chars()
        bad = ~text.str.contains(shape).fill_null(value=False)
    check.refuse(
        table,
        column,
        bad,
        "is not a time",
        hint=f"times like the first row's: {'2024-05-12 08:47:44.022580+00:00' if zoned else '2023-11-16 18:15:46.68'}",
    )
    if "," in text[0]:  # as Python's logging writes fractions
        text = text.str.replace(",", ".", literal=True)
    try:  # 0.04 s for a million, where polars takes 0.4
        kind = pa.timestamp("ns", "UTC" if zoned else None)
        return pl.concat([_cast(text.slice(first, PART), kind) for first in range(0, len(text), PART)])
    except pa.ArrowInvalid:  # a day that is none, such as 30 February: polars finds the row
        return _one_by_one(text, zoned=zoned)


def _cast(text: pl.Series, kind: pa.DataType) -> pl.Series:
    return pl.Series(pl.from_arrow(text.to_arrow().cast(kind)))


def _one_by_one(text: pl.Series, *, zoned: bool) -> pl.Series:
    mark = "T" if "T" in text[0] else " "
    if zoned:
        text = text.str.replace("Z$", "+00:00")
    pattern = f"%Y-%m-%d{mark}%H:%M:%S%.f" + ("%:z" if zoned else "")
    return text.str.to_datetime(pattern, time_unit="ns", strict=False)
