"""Reads our own Parquet where nothing about it is odd: from Arrow alone, as importing polars takes a tenth of a second.

What a person would have to be told of, such as a missing or negative value, is left to `readers`, which say it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapsbench import schema
from lapsbench.core import PRIORITY_MOST, TOKENS_MOST, Trace

if TYPE_CHECKING:
    from lapsbench.core import Floats, Ints, Strings
    from lapsbench.traces.source import Source

EXACT_S = 1e6
"""Of stamps below this one may be subtracted from the other as they are."""
WHOLE = (pa.int32(), pa.int64())


def read_plain(source: Source) -> Trace | None:
    """Return the trace in file order, still without a name, as `readers.native` reads it; None where it is odd.

    Raises:
        LapsbenchError: the file is damaged.
    """
    if source.container != "parquet" or source.time_unit is not None:
        return None
    wanted = _as_they_are(pq.read_schema(pa.BufferReader(source.content)))
    if wanted is None:
        return None
    table = schema.read_parquet(source.path, "trace", wanted, content=source.content)
    arrival_s = _times(table, "arrival_s")
    prompt, output = (_whole(table, name, 1, TOKENS_MOST) for name in ("prompt_tokens", "output_tokens"))
    predicted, priority = _times(table, "predicted_tokens"), _whole(table, "priority", -PRIORITY_MOST, PRIORITY_MOST)
    there = set(wanted.names)
    if arrival_s is None or prompt is None or output is None or arrival_s.max() >= EXACT_S:
        return None
    if ("predicted_tokens" in there and predicted is None) or ("priority" in there and priority is None):
        return None
    try:
        provenance = schema.provenance(table)
    except ValueError:
        return None
    if "first_arrival" not in provenance:
        provenance |= {"first_arrival": str(float(arrival_s.min())), "time_unit": "s"}
    return Trace(
        name="",
        arrival_s=arrival_s - arrival_s.min(),
        prompt_tokens=prompt,
        output_tokens=output,
        category=_strings(table, "category"),
        client_id=_strings(table, "client_id"),
        prompt_id=_strings(table, "prompt_id"),
        predicted_tokens=predicted,
        priority=priority,
        provenance=provenance | {"file": source.path.name, "format": "native", "rows_read": table.num_rows},
    )


def _as_they_are(found: pa.Schema) -> pa.Schema | None:
    """Return our columns of a file, where all have the type that they are written with."""
    ours = [*schema.TRACE, *(field for field in schema.TRACE_OPTIONAL if field.name in found.names)]
    if any(found.names.count(field.name) != 1 for field in ours):
        return None
    kinds = [found.field(field.name).type for field in ours]
    fits = [
        kind == field.type or (kind in WHOLE and field.type in WHOLE) for kind, field in zip(kinds, ours, strict=True)
    ]
    return pa.schema([(field.name, kind) for field, kind in zip(ours, kinds, strict=True)]) if all(fits) else None


def _times(table: pa.Table, name: str) -> Floats | None:
    """Return numbers that are all there, finite and not negative; else None."""
    if name not in table.column_names or table[name].null_count or not table.num_rows:
        return None
    values = np.array(table[name].to_numpy(), np.float64)
    return values if np.isfinite(values).all() and values.min() >= 0 else None


def _whole(table: pa.Table, name: str, least: int, most: int) -> Ints | None:
    """Return whole numbers that are all there and in a range; else None."""
    if name not in table.column_names or table[name].null_count or not table.num_rows:
        return None
    values = table[name].to_numpy()
    return values.astype(np.int32) if least <= values.min() and values.max() <= most else None


def _strings(table: pa.Table, name: str) -> Strings | None:
    if name not in table.column_names:
        return None
    values = np.array(table[name].to_numpy(), object)
    if table[name].null_count:
        values[values == np.array(None)] = ""
    return values
