"""LLMServingSim's workloads, JSON lines: requests, or sessions of `sub_requests` with a tool call after each.

The two may stand side by side in a file. Times are nanoseconds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lapsbench.errors import LapsbenchError
from lapsbench.traces import json_rows
from lapsbench.traces.columns import Columns
from lapsbench.traces.frame import count, table_of
from lapsbench.traces.readers import sessions
from lapsbench.traces.readers.log import log, requests
from lapsbench.traces.readers.reader import Reader

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source

_NAMES: Final = ("arrival_time_ns", "input_toks", "output_toks")
_COLUMNS: Final = Columns(*_NAMES, client="session_id")
_SUB: Final = "sub_requests"
_TOOL, _WAIT = "tool_duration_ns", "tool call before it"


def _read(source: Source, failed: Failed) -> Trace:
    all_turns = [_turns(source, row, record) for row, record in enumerate(json_rows.records(source), 1)]
    empty = sum(not turns for turns in all_turns)
    names = ("session_id", *_COLUMNS.required, _WAIT)
    table = table_of(replace(source, row="request"), [turn for turns in all_turns for turn in turns], names)
    if empty:
        table = replace(table, notes=(*table.notes, f"{count(empty, 'session')} without requests: skipped"))
    arrivals = sessions.arrivals(table, "session_id", _COLUMNS.arrival, _WAIT, "ns")
    return requests(table, READER.name, _COLUMNS, arrivals, failed)


def _turns(source: Source, row: int, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the requests of a session, each with the tool call that it waits for."""
    turns = record.get(_SUB)
    if turns is None:
        return [record]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise LapsbenchError("is not a list of requests", where=source.at(_SUB, row), hint="[{...}, {...}]")
    session = {"session_id": record.get("session_id", f"session {row}")}
    starts = [record.get(_COLUMNS.arrival), *[None] * len(turns)]
    waits = [None, *(turn.get(_TOOL) for turn in turns)]
    return [
        {**turn, **session, _COLUMNS.arrival: start, _WAIT: wait}
        for turn, start, wait in zip(turns, starts, waits, strict=False)
    ]


READER: Final = Reader("llmservingsim", ("jsonl", "json"), (_COLUMNS.arrival, _SUB), (), _read)
FLAT: Final = log("llmservingsim", ("jsonl", "json"), _NAMES, unit="ns", client=_COLUMNS.client)
