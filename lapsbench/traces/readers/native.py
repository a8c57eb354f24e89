"""Our own format: arrival_s, prompt_tokens, output_tokens and five optional columns, as Parquet, CSV or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lapsbench.core import Trace
from lapsbench.schema import TRACE, TRACE_OPTIONAL
from lapsbench.traces import check, clock
from lapsbench.traces.frame import read_table
from lapsbench.traces.readers.reader import Reader

if TYPE_CHECKING:
    from lapsbench.traces.clock import Arrivals
    from lapsbench.traces.frame import Table
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source


def _read(source: Source, failed: Failed) -> Trace:  # noqa: ARG001 - a row without tokens is an error here
    table = read_table(source, READER.columns, READER.optional)
    predicted = "predicted_tokens"
    arrivals = clock.arrivals(table, "arrival_s", "s")
    return Trace(
        name="",
        arrival_s=arrivals.since_s,
        prompt_tokens=check.tokens(table, "prompt_tokens", least=1),
        output_tokens=check.tokens(table, "output_tokens", least=1),
        category=check.strings(table, "category"),
        client_id=check.strings(table, "client_id"),
        prompt_id=check.strings(table, "prompt_id"),
        predicted_tokens=check.times(table, predicted) if predicted in table.frame.columns else None,
        priority=check.priorities(table, "priority"),
        notes=(*table.notes, *arrivals.notes),
        provenance={**table.provenance, **_clock(table, arrivals), **check.origin(table, READER.name)},
    )


def _clock(table: Table, arrivals: Arrivals) -> dict[str, str]:
    """Return the origin of the stamps; a trace that was converted keeps that of the file it comes from."""
    converted = table.source.time_unit is None and "first_arrival" in table.provenance
    return {} if converted else arrivals.origin()


READER: Final = Reader(
    "native",
    ("parquet", "csv", "jsonl", "json"),
    tuple(TRACE.names),
    tuple(TRACE_OPTIONAL.names),
    _read,
    tokens=("prompt_tokens", "output_tokens"),
)
