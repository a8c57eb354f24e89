"""GuideLLM's report, one JSON document: benchmarks one after the other, and the requests of each by how they ended.

All are sent on one clock, seconds since 1970. What was cut off or went wrong counts as failed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lapsbench.errors import LapsbenchError
from lapsbench.traces import clock, json_rows
from lapsbench.traces.columns import Columns, Ok
from lapsbench.traces.frame import table_of
from lapsbench.traces.readers.log import requests
from lapsbench.traces.readers.reader import Reader

if TYPE_CHECKING:
    from lapsbench.core import Floats, Trace
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source

_STARTS: Final = ("request_start_time", "start_time")
"""As it is called, and as it was called before version 0.2."""
_END: Final = "how it ended"
_ENDS: Final = ("successful", "incomplete", "errored")


def _read(source: Source, failed: Failed) -> Trace:
    runs = [_requests(source, run) for record in json_rows.records(source) for run in _runs(source, record)]
    source = replace(source, row="request")
    columns = Columns("", "prompt_tokens", "output_tokens", ok=Ok(_END, _ENDS[:1]))
    table = table_of(source, [row for run in runs for row in run], (*_STARTS, *columns.required, _END))
    start = next((name for name in _STARTS if name in table.frame.columns), _STARTS[0])
    arrivals = clock.arrivals(table, start, "s")
    notes = _turns([len(run) for run in runs], arrivals.since_s)
    return requests(replace(table, notes=(*table.notes, *notes)), READER.name, columns, arrivals, failed)


def _runs(source: Source, record: dict[str, Any]) -> list[Any]:
    runs = record.get("benchmarks")
    if not isinstance(runs, list):
        raise _torn(source)
    return runs


def _requests(source: Source, run: Any) -> list[dict[str, Any]]:
    try:
        return [{**request, _END: end} for end in _ENDS for request in run["requests"].get(end) or ()]
    except (AttributeError, KeyError, TypeError) as error:
        raise _torn(source) from error


def _torn(source: Source) -> LapsbenchError:
    return LapsbenchError(
        "holds no requests by how they ended",
        where=source.at("benchmarks"),
        hint="the JSON report as guidellm wrote it, with its requests",
    )


def _turns(sizes: list[int], since_s: Floats) -> tuple[str, ...]:
    """Say when each of several benchmarks begins, for who wants one of them."""
    runs = [run for run in np.split(since_s, np.cumsum(sizes)[:-1]) if len(run)]
    if len(runs) < 2:
        return ()
    begins = ", ".join(f"{run.min():.6g}" for run in runs[:12])
    return (f"{len(runs)} benchmarks one after the other, at {begins} s: --window START:END keeps one",)


READER: Final = Reader("guidellm", ("json", "jsonl"), ("benchmarks",), (), _read)
