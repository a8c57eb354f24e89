"""Mooncake traces (kvcache-ai/Mooncake), JSON lines: timestamp in milliseconds, input_length, output_length.

Arrivals come batched, many at the same millisecond: ties keep the order of the file. `hash_ids`, which name common
prefixes, are not read: no prefix is cached in the step model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lapsbench.traces import check
from lapsbench.traces.readers.reader import Reader
from lapsbench.traces.table import read_table

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source


def _read(source: Source, failed: Failed) -> Trace:
    table = read_table(source, READER.columns, READER.optional)
    return check.served(
        table,
        READER.name,
        failed,
        arrival_s=check.times(table, "timestamp") / 1e3,
        prompt_tokens=check.tokens(table, "input_length", least=0),
        output_tokens=check.tokens(table, "output_length", least=0),
    )


READER: Final = Reader("mooncake", ("jsonl", "json"), ("timestamp", "input_length", "output_length"), (), _read)
