"""How the stamps of a file become seconds since its first arrival, and which stamps are refused.

What one means by a stamp is known from its format, or from `--time-unit`; here it is only held against the calendar.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.traces import check, moments
from lapsbench.traces.columns import UNITS, WORDS, in_seconds, seconds_per

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lapsbench.core import Floats
    from lapsbench.traces.frame import Table

    Flags = NDArray[np.bool_]

_SINCE_1970: Final = ("s", "ms", "us", "ns")
_EARLIEST_S, _LATEST_S = 978_307_200.0, 4_102_444_800.0
"""Stamps that count from 1970 lie between the years 2001 and 2100; no clock that counts from less is as late."""
_YEAR_S = 365.25 * 86_400
_EXACT = 1e6
"""Float64 subtracts stamps below this to a ten-thousandth of a millionth of their unit."""
_FINEST_S = 1e-5
"""Stamps that a float rounds to more than this are refused: a step takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When the rows of a file arrive.

    Attributes:
        since_s: float64 [N], seconds since the earliest row.
        stamps: as they stand in the file [N]; None where the file has none.
        unit: of the stamps; "" where they are moments of time.
        notes: how they were read, where that is not plain.
    """

    since_s: Floats
    stamps: pl.Series | None = None
    unit: str = "s"
    notes: tuple[str, ...] = ()

    def origin(self, kept: slice | Flags = slice(None)) -> dict[str, str]:
        """Return what the results keep of the clock: the stamp of the first arrival kept, and its unit."""
        rows = np.arange(len(self.since_s))[kept]
        if self.stamps is None or not len(rows):
            return {}
        first = int(rows[self.since_s[rows].argmin()])
        return {"first_arrival": str(self.stamps[first]).strip(), "time_unit": self.unit or "moments"}


def arrivals(table: Table, column: str, unit: str | None, note: str = "") -> Arrivals:
    """Return when each row arrives; what the user says of the unit comes first.

    Args:
        table: the file.
        column: of its stamps.
        unit: of numbers, in this format; None where it holds moments of time, such as 2026-11-27 10:00:00.
        note: how the unit was found, where the format leaves it open.

    Raises:
        UsageError: a unit was given for moments, or one that does not exist.
        LapsbenchError: a stamp is missing, no stamp, negative, no date in this unit, or rounded by a float.
    """
    asked = table.source.time_unit
    if unit is None:
        if asked is not None:
            what = f"column {column!r} holds moments of time, which have no unit"
            raise UsageError(what, where="--time-unit", hint="leaving it out")
        return Arrivals(moments.seconds(table, column), table.frame[column], "")
    chosen = unit if asked is None else asked
    seconds_per(chosen)
    values = check.times(table, column)
    cells = table.frame[column]
    if not len(values):
        return Arrivals(values, cells, chosen)
    _refuse_dates(table, column, values, chosen, given=asked is not None)
    if asked is not None and asked != unit:
        note = f"column {column!r} read as {WORDS[asked]}, as --time-unit says"
    since_s = in_seconds(_since_first(table, column, values, seconds_per(chosen)), chosen)
    return Arrivals(since_s, cells, chosen, (note,) if note else ())


def _refuse_dates(table: Table, column: str, values: Floats, unit: str, *, given: bool) -> None:
    """Refuse stamps whose unit cannot be this one; one that was given needs only be possible."""
    row = int(values.argmin())
    lowest = float(values[row])
    dates = [other for other in _SINCE_1970 if _EARLIEST_S <= lowest * UNITS[other] < _LATEST_S]
    late = lowest * UNITS[unit] >= _LATEST_S
    if not late and (given or not dates or unit in dates):
        return
    shown = str(table.frame[column][row]).strip()
    what, units = f"{shown} {WORDS[unit]} are {lowest * UNITS[unit] / _YEAR_S:,.0f} years", "ms, us or ns"
    if dates:
        day = datetime.fromtimestamp(lowest * UNITS[dates[0]], UTC).date()
        what = f"{shown} looks like {WORDS[dates[0]]} since 1970 ({day}), not like {WORDS[unit]}"
        units = dates[0] if late else f"{dates[0]} (or {unit}, if that is right)"
    hint = f"--time-unit {units}, or lapsbench traces convert with it"
    raise LapsbenchError(what, where=table.source.at(column, row + 1), hint=hint)


def _since_first(table: Table, column: str, values: Floats, unit_s: float) -> Floats:
    """Return the stamps less the earliest, in their unit, subtracted before they are rounded to a float."""
    since: Floats = values - values.min()
    if values.max() < _EXACT:
        return since
    cells = table.frame[column]
    if cells.dtype == pl.String:
        cells = cells.str.strip_chars().cast(pl.Decimal(38, 9), strict=False)
    if (cells.dtype.is_integer() or cells.dtype.is_decimal()) and not cells.null_count():
        since = (cells - cells.min()).cast(pl.Float64).to_numpy(writable=True)
    else:
        narrow = np.float32 if cells.dtype == pl.Float32 else np.float64
        apart_s = np.spacing(values.astype(narrow)).astype(np.float64) * unit_s
        what = f"is rounded: a float holds such stamps {apart_s.max():.2g} s apart"
        check.refuse(table, column, pl.Series(apart_s > _FINEST_S), what, hint="whole numbers, or stamps from 0 on")
    return since
