"""Checks the cells of a table, column by column: a bad one is named by file, row and column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl

from lapsbench.core import TOKENS_MOST, Trace
from lapsbench.errors import LapsbenchError
from lapsbench.traces import causes
from lapsbench.traces.table import count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lapsbench.core import Bools, Floats, Ints, Strings
    from lapsbench.traces.clock import Arrivals
    from lapsbench.traces.columns import Ok
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.table import Table

_T = TypeVar("_T", bound=np.generic)


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


def strings(table: Table, column: str | None) -> Strings | None:
    """Return strings [N], "" where a value is missing; None where the file has no such column."""
    if column not in table.frame.columns:
        return None
    return table.frame[column].fill_null("").to_numpy().astype(object, copy=False)


def failures(table: Table, ok: Ok | None) -> Bools:
    """Return bool [N], which requests did not end as `ok` says they should; none where the file does not tell."""
    if ok is None or ok.column not in table.frame.columns:
        return np.zeros(table.frame.height, dtype=np.bool_)
    ends = table.frame[ok.column].cast(pl.String).fill_null("").str.strip_chars().str.to_lowercase()
    return (~ends.is_in(ok.values)).to_numpy(writable=True)


def served(
    table: Table,
    reader: str,
    failed: Failed,
    *,
    arrivals: Arrivals,
    prompt_tokens: Ints,
    output_tokens: Ints,
    failures: Bools | None = None,
    unsent: Bools | None = None,
    category: Strings | None = None,
    client_id: Strings | None = None,
    prompt_id: Strings | None = None,
    predicted_tokens: Floats | None = None,
) -> Trace:
    """Return the requests of somebody else's log, the first arrival at 0.

    Rows without a prompt are dropped and counted, and so are those that failed, as `failures` say or for lack of any
    output, unless `failed` is "keep": then they ask for one token. Those of them that were never sent (`unsent`) have
    no arrival to keep.
    """
    none = np.zeros(len(output_tokens), dtype=np.bool_)
    keep = failed == "keep"
    never = unsent if keep and unsent is not None else none
    has_prompt = prompt_tokens > 0
    told = (none if failures is None else failures) & ~never & (has_prompt if keep else ~none)
    silent = ~told & ~never & has_prompt & (output_tokens == 0)
    without_prompt = ~told & ~never & ~has_prompt
    fate = "kept with 1 output token" if keep else "dropped"
    notes = _counted(
        table,
        (never, "failed without a start time: dropped"),
        (without_prompt, "with no prompt tokens: dropped"),
        (told, f"that failed: {fate}"),
        (silent, f"with no output tokens (failed): {fate}"),
    )
    output_tokens = np.where(told | silent, np.int32(1), output_tokens)
    kept = ~(never | without_prompt | (none if keep else told | silent))
    rows = slice(None) if kept.all() else kept
    since_s = arrivals.since_s[rows]

    def pick(column: NDArray[_T] | None) -> NDArray[_T] | None:
        return None if column is None else column[rows]

    return Trace(
        name="",
        arrival_s=since_s - (since_s.min() if len(since_s) else 0.0),
        prompt_tokens=prompt_tokens[rows],
        output_tokens=output_tokens[rows],
        category=pick(category),
        client_id=pick(client_id),
        prompt_id=pick(prompt_id),
        predicted_tokens=pick(predicted_tokens),
        notes=(*table.notes, *arrivals.notes, *notes),
        provenance={**origin(table, reader), **arrivals.origin(rows), "rows_dropped": int(len(kept) - kept.sum())},
    )


def _counted(table: Table, *fates: tuple[Bools, str]) -> list[str]:
    return [f"{count(int(rows.sum()), table.source.row)} {fate}" for rows, fate in fates if rows.any()]


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
