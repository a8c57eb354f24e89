"""Step costs in the columns of cost.parquet, as CSV: the way in for whoever computes steps, from layers or otherwise.

`component,batch_size,query_tokens,context_tokens,time_s`, in any order; for rows of `mixed` also `verify_tokens` and
`chunk_context_tokens`, empty in others. Other columns are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from lapsbench import schema
from lapsbench.errors import LapsbenchError
from lapsbench.store.parquet_columns import Columns
from lapsbench.store.profile import NEEDED, OF_MIXED, checked_costs
from lapsbench.store.tables.reader import CostReader, CostTable, csv, header, seconds, sizes

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

COLUMNS: Final = tuple(NEEDED.names)
NEEDS: Final = ",".join(COLUMNS)


def _read(text: bytes, path: Path) -> CostTable:
    frame = csv(text, path, NEEDS)
    if missing := [name for name in COLUMNS if name not in frame.columns]:
        found = ", ".join(frame.columns)
        raise LapsbenchError(f"column {missing[0]!r} is missing; found {found}", where=str(path), hint=NEEDS)
    least = {"context_tokens": 0}
    columns = [frame["component"].fill_null("").str.strip_chars().to_numpy()]
    columns += [sizes(frame[name], path, least.get(name, 1)) for name in COLUMNS[1:4]]
    columns += [seconds(frame["time_s"], path)]
    fields = list(NEEDED)
    for field in OF_MIXED:
        if field.name in frame.columns:
            cells = frame[field.name].str.strip_chars().replace("", None)
            columns.append(_sizes_or_none(cells, path))
            fields.append(field)
    table = pa.table(
        [pa.array(values, field.type, safe=False) for values, field in zip(columns, fields, strict=True)],
        schema=pa.schema(fields),
    )
    return _table(Columns(table, path), path)


def _sizes_or_none(cells: pl.Series, path: Path) -> pa.Array:
    """Return whole numbers from 0 up, and null for an empty cell."""
    empty = cells.is_null()
    return pa.array(sizes(cells.fill_null("0"), path, 0).astype(int), mask=empty.to_numpy())


def _parquet(_: bytes, path: Path) -> CostTable:
    return _table(Columns(schema.read_parquet(path, "cost", NEEDED, OF_MIXED), path), path)


def _table(columns: Columns, path: Path) -> CostTable:
    costs = checked_costs(columns)
    about = {"label": f"step costs from {path.name}", "source": f"{path.name}: {NEEDS}"}
    return CostTable(costs, {**about, **columns.provenance()})


READER: Final = CostReader(NEEDS, lambda text: "component" in header(text), _read)
PARQUET: Final = CostReader("cost.parquet", lambda text: text.startswith(b"PAR1"), _parquet)
