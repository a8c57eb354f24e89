"""`steps.parquet` in the folder of a run that was served: what every step did for whom, a row group per cell.

While the run is under way each cell's steps lie beside its outcome in `cells/`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapsbench.errors import LapsbenchError
from lapsbench.files import first_line
from lapsbench.schema import STEPS, TAG, WRITING, tag_of, write_parquet
from lapsbench.store.steps import ROW

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lapsbench.store.run import CellKey
    from lapsbench.store.steps import Steps

CELLS = b"lapsbench.cells"
NAME = "steps.parquet"
DAMAGED = (OSError, pa.ArrowException, LookupError, ValueError)
"""What reading a damaged file may raise."""


class StepCells:
    """The steps of a run's cells, on disk."""

    def __init__(self, folder: Path) -> None:
        self.whole, self.parts = folder / NAME, folder / "cells"
        self.gathered = _gathered(self.whole)

    def has(self, key: CellKey) -> bool:
        """Whether a cell's steps are there, and readable."""
        try:
            return key.key in self.gathered or pq.read_metadata(self._part(key)).num_columns == len(STEPS)
        except DAMAGED:
            return False

    def log(self, key: CellKey) -> Path:
        """Return where a cell's log lies while it is served."""
        return self.parts / f"{key.key}.jsonl"

    def keep(self, key: CellKey, log: Steps) -> None:
        """Put a cell's steps on disk, and let its log go."""
        write_parquet(_table(key, log), self._part(key), "steps", extra={CELLS: json.dumps([key.key]).encode()})
        self.log(key).unlink(missing_ok=True)

    def gather(self, keys: Sequence[CellKey], part: Path) -> None:
        """Write the steps of all cells to a place that `files.whole` gave.

        Raises:
            LapsbenchError: those of a finished cell cannot be read any more.
        """
        schema = STEPS.with_metadata({TAG: tag_of("steps")})
        with pq.ParquetWriter(part, schema, **WRITING) as writer:
            for key in keys:
                writer.write_table(self.load(key).replace_schema_metadata(schema.metadata), row_group_size=2**31)
            writer.add_key_value_metadata({CELLS: json.dumps([key.key for key in keys]).encode()})

    def load(self, key: CellKey) -> pa.Table:
        """Return the steps of a finished cell.

        Raises:
            LapsbenchError: they cannot be read any more.
        """
        part = self._part(key)
        here = part.exists()
        try:
            with pq.ParquetFile(part if here else self.whole, page_checksum_verification=True) as file:
                return (file.read() if here else file.read_row_group(self.gathered[key.key])).cast(STEPS)
        except DAMAGED as error:
            what = f"the steps of {key.policy}, seed {key.seed}, cannot be read ({first_line(error)})"
            raise LapsbenchError(what, where=str(part if here else self.whole), hint="removing the file") from error

    def _part(self, key: CellKey) -> Path:
        return self.parts / f"{key.key}.steps.parquet"


def _gathered(path: Path) -> dict[str, int]:
    """Map the key of each gathered cell to its row group; empty where they are not as we wrote them."""
    try:
        metadata = pq.read_metadata(path)
        keys: list[str] = json.loads((metadata.metadata or {})[CELLS])
    except DAMAGED:
        return {}
    return {key: place for place, key in enumerate(keys)} if len(keys) == metadata.num_row_groups else {}


def _table(key: CellKey, log: Steps) -> pa.Table:
    """Return a row per step and request, who is called by the place in the trace: they arrive in its order."""
    n, step = len(log.rows), log.column("step")
    columns: dict[str, Any] = {
        "policy": pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [key.policy]),
        "load": pa.nulls(n, pa.float64()) if key.load is None else np.full(n, key.load),
        "seed": np.full(n, key.seed, np.int32),
        "step": step.astype(np.int32),
        "start_s": log.start_s[step],
        "end_s": log.end_s[step],
        "admit_s": log.admit_s[step],
        **{name: log.column(name).astype(np.int32) for name in ROW[1:-1]},
        "preempted": log.column("preempted").astype(np.bool_),
    }
    return pa.table(columns, schema=STEPS)
