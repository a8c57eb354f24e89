"""Writes a trace in our own Parquet format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from lapsbench.schema import TRACE, TRACE_OPTIONAL, write_parquet

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.core import Trace


def save_trace(trace: Trace, path: Path) -> None:
    """Write `trace` as `trace/1` with its provenance; same trace, same bytes.

    Raises:
        LapsbenchError: the file cannot be written.
    """
    fields = list(TRACE) + [extra for extra in TRACE_OPTIONAL if getattr(trace, extra.name) is not None]
    columns = [pa.array(getattr(trace, wanted.name), type=wanted.type) for wanted in fields]
    write_parquet(pa.table(columns, schema=pa.schema(fields)), path, "trace", trace.provenance)
