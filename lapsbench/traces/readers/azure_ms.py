"""Slices of the Azure traces with arrivals in milliseconds: arrival_ms, prompt_tokens, output_tokens."""

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
        arrival_s=check.times(table, "arrival_ms") / 1e3,
        prompt_tokens=check.tokens(table, "prompt_tokens", least=0),
        output_tokens=check.tokens(table, "output_tokens", least=0),
    )


READER: Final = Reader("azure-ms", ("csv",), ("arrival_ms", "prompt_tokens", "output_tokens"), (), _read)
