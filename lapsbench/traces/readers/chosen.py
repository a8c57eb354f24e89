"""A file of any layout, by the columns its user names: `--columns arrival=ts,prompt=in,output=out --time-unit ms`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.errors import LapsbenchError
from lapsbench.traces import check, clock, moments
from lapsbench.traces.table import read_table

if TYPE_CHECKING:
    from lapsbench.core import Strings, Trace
    from lapsbench.traces.clock import Arrivals
    from lapsbench.traces.columns import Columns
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source
    from lapsbench.traces.table import Table

NAME = "columns"


def read_chosen(source: Source, columns: Columns, failed: Failed) -> Trace:
    """Return the rows of a file whose columns are named by its user.

    Args:
        source: the file.
        columns: which of its columns to read.
        failed: what becomes of rows without output.

    Raises:
        UsageError: a unit for arrivals that have none, or a column the file does not have.
        LapsbenchError: a value that cannot be read.
    """
    wanted = (*columns.required, *columns.optional)
    missing = [name for name in wanted if name not in source.columns]
    if missing and source.container in ("csv", "parquet"):
        found = ", ".join(repr(name[:40]) for name in source.columns[:12]) or "none"
        what = f"has no column {missing[0]!r}; it has {found}"
        raise LapsbenchError(what, where=str(source.path), hint="--columns with the names of its header")
    table = read_table(source, _distinct(columns.required), _distinct(columns.optional))
    predicted = columns.predicted
    return check.served(
        table,
        NAME,
        failed,
        arrivals=_arrivals(table, columns.arrival),
        prompt_tokens=check.tokens(table, columns.prompt, least=0),
        output_tokens=check.tokens(table, columns.output, least=0),
        category=_strings(table, columns.category),
        client_id=_strings(table, columns.client),
        prompt_id=_strings(table, columns.prompt_id),
        predicted_tokens=check.times(table, predicted) if predicted else None,
    )


def _arrivals(table: Table, column: str) -> Arrivals:
    """Read numbers as seconds, if nothing else was said."""
    are_moments = column in table.frame.columns and moments.are_moments(table.frame[column])
    return clock.arrivals(table, column, None if are_moments else "s")


def _strings(table: Table, column: str | None) -> Strings | None:
    return check.strings(table, column) if column else None


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
