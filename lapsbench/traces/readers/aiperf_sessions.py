"""AIPerf's multi-turn traces: Mooncake's keys in milliseconds, and a `delay` after the answer to the turn before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lapsbench.traces.columns import Columns
from lapsbench.traces.frame import read_table
from lapsbench.traces.readers import sessions
from lapsbench.traces.readers.log import requests
from lapsbench.traces.readers.reader import Reader

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source

_COLUMNS: Final = Columns("timestamp", "input_length", "output_length", client="session_id")
_WAIT: Final = "delay"


def _read(source: Source, failed: Failed) -> Trace:
    table = read_table(source, READER.columns, ())
    arrivals = sessions.arrivals(table, "session_id", _COLUMNS.arrival, _WAIT, "ms")
    return requests(table, READER.name, _COLUMNS, arrivals, failed)


READER: Final = Reader("aiperf sessions", ("jsonl", "json"), ("session_id", *_COLUMNS.required, _WAIT), (), _read)
