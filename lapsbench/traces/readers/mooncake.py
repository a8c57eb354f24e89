"""Files with Mooncake's keys, JSON lines: timestamp, input_length, output_length; milliseconds, or seconds.

Mooncake (kvcache-ai/Mooncake) counts milliseconds, in whole numbers. Others took over its keys and count seconds:
Bailian's traces of Qwen (`chat_id`), RAGPulse (quoted stamps, `hash_ids` with names), GuideLLM (fractions).

Arrivals come batched, many at the same millisecond: ties keep the order of the file. `hash_ids`, which name common
prefixes, are not read: no prefix is cached in the step model.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from lapsbench.traces import clock
from lapsbench.traces.columns import Columns
from lapsbench.traces.frame import read_table
from lapsbench.traces.readers.log import requests
from lapsbench.traces.readers.reader import Reader

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.frame import Table
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source

_STAMP = "timestamp"
_COLUMNS: Final = Columns(_STAMP, "input_length", "output_length")
_BAILIAN = ("chat_id", "parent_chat_id")


def _read(source: Source, failed: Failed) -> Trace:
    table = read_table(source, READER.columns, ())
    why = _seconds(table)
    unit, found = ("s", f"seconds: {why}") if why else ("ms", "milliseconds, as Mooncake's are")
    note = f"column {_STAMP!r} read as {found}; --time-unit says otherwise"
    return requests(table, READER.name, _COLUMNS, clock.arrivals(table, _STAMP, unit, note), failed)


def _seconds(table: Table) -> str:
    """Say what shows that the stamps are seconds; "" where nothing does."""
    named = [repr(name) for name in _BAILIAN if name in table.source.columns]
    if named:
        return f"it has {' and '.join(named)}, as Bailian's traces"
    first = _first(table.source)
    if isinstance(first.get(_STAMP), str):
        return "they are quoted, as RAGPulse's"
    if isinstance(first.get("hash_ids"), dict):
        return "its 'hash_ids' have names, as RAGPulse's"
    stamps = table.frame[_STAMP] if _STAMP in table.frame.columns else pl.Series([], dtype=pl.String)
    return "they have fractions" if stamps.str.contains(r"\.\d*[1-9]").any() else ""


def _first(source: Source) -> dict[str, Any]:
    """Return the first row with its values; empty where it is not one object."""
    text = source.content.lstrip()
    try:
        row = json.loads(text.partition(b"\n")[0] if source.container == "jsonl" else text)
    except (ValueError, RecursionError):
        return {}
    row = row[0] if isinstance(row, list) and row else row
    return row if isinstance(row, dict) else {}


READER: Final = Reader("mooncake", ("jsonl", "json"), _COLUMNS.required, (), _read, _COLUMNS.required[1:])
