"""Formats that are a log of requests, one row each: what tells them apart is names, a unit, and how time is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.traces import check, clock
from lapsbench.traces.readers.reader import Reader
from lapsbench.traces.table import read_table

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Container, Source


def log(
    name: str,
    containers: tuple[Container, ...],
    columns: tuple[str, str, str],
    *,
    unit: str | None = "s",
    category: str | None = None,
    client: str | None = None,
) -> Reader:
    """Return the reader of a log of requests.

    Args:
        name: for people.
        containers: what it may be stored in.
        columns: of arrival, prompt tokens and output tokens.
        unit: of the arrivals; None where they are moments of time.
        category: its column, if there may be one.
        client: its column, if there may be one.
    """
    arrival, prompt, output = columns
    optional = tuple(column for column in (category, client) if column is not None)

    def read(source: Source, failed: Failed) -> Trace:
        table = read_table(source, columns, optional)
        return check.served(
            table,
            name,
            failed,
            arrivals=clock.arrivals(table, arrival, unit),
            prompt_tokens=check.tokens(table, prompt, least=0),
            output_tokens=check.tokens(table, output, least=0),
            category=check.strings(table, category) if category else None,
            client_id=check.strings(table, client) if client else None,
        )

    return Reader(name, containers, columns, optional, read)
