"""Formats that are a log of requests, one row each: what tells them apart is names, a unit, and what a failure is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.traces import check, clock, served
from lapsbench.traces.columns import Columns, Ok
from lapsbench.traces.frame import read_table
from lapsbench.traces.readers.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.core import Bools, Ints, Trace
    from lapsbench.traces.clock import Arrivals
    from lapsbench.traces.frame import Table
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Container, Source

    Prompts = Callable[[Table, Bools], Ints]


def log(
    name: str,
    containers: tuple[Container, ...],
    columns: tuple[str, str, str],
    *,
    unit: str | None = "s",
    category: str | None = None,
    client: str | None = None,
    ok: Ok | None = None,
    prompts: Prompts | None = None,
    more: tuple[str, ...] = (),
) -> Reader:
    """Return the reader of a log of requests.

    Args:
        name: for people.
        containers: what it may be stored in.
        columns: of arrival, prompt tokens and output tokens; in JSON they may be paths with dots.
        unit: of the arrivals; None where they are moments of time.
        category: its column, if there may be one.
        client: its column, if there may be one.
        ok: which requests succeeded, where the log says so.
        prompts: counts prompt tokens where that takes more than their column.
        more: columns that `prompts` reads, too.
    """
    named = Columns(*columns, category=category, client=client, ok=ok)
    optional = (*named.optional, *more)

    def read(source: Source, failed: Failed) -> Trace:
        table = read_table(source, columns, optional)
        arrivals = clock.arrivals(table, named.arrival, unit)
        return requests(table, name, named, arrivals, failed, prompts)

    return Reader(name, containers, columns, optional, read, tokens=(named.prompt, named.output))


def requests(
    table: Table, name: str, columns: Columns, arrivals: Arrivals, failed: Failed, prompts: Prompts | None = None
) -> Trace:
    """Return the rows of a log that is read already.

    A request without output tokens has failed, whether there is a 0 or nothing; what it lacks is then no error.

    Raises:
        LapsbenchError: a value that cannot be read.
    """
    failures = served.failures(table, columns.ok)
    output = check.outputs(table, columns.output)
    without = failures | (output == 0)
    if prompts is None:
        prompt = check.tokens(table, columns.prompt, least=0, absent=without)
    else:
        prompt = prompts(table, without)
    return served.served(
        table,
        name,
        failed,
        arrivals=arrivals,
        prompt_tokens=prompt,
        output_tokens=output,
        failures=failures,
        category=check.strings(table, columns.category),
        client_id=check.strings(table, columns.client),
        prompt_id=check.strings(table, columns.prompt_id),
        predicted_tokens=check.times(table, columns.predicted) if columns.predicted else None,
        priority=check.priorities(table, columns.priority),
    )
