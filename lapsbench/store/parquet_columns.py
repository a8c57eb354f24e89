"""The columns of one Parquet file as NumPy arrays; what is wrong with one is told by file, column and row from 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow as pa

from lapsbench import schema
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from lapsbench.core import Bytes, Longs, Strings


@dataclass(frozen=True, slots=True)
class Columns:
    """A table that was read from `path`."""

    table: pa.Table
    path: Path

    def strings(self, name: str) -> Strings:
        """Return a string column without nulls."""
        return np.asarray(self._whole(name).to_numpy(), dtype=object)

    def numbers(self, name: str, *, least: int | None = None) -> NDArray[Any]:
        """Return a numeric column without nulls, no value below `least`."""
        values = np.asarray(self._whole(name).to_numpy())
        if least is not None:
            self.refuse(values < least, name, values, "is too small", hint=f"{least} or more")
        return values

    def optional(self, name: str, *, absent: int, needed: bool) -> NDArray[Any]:
        """Return a column of whole numbers with `absent` where a row has none, or where it is not there nor needed."""
        if name not in self.table.schema.names:
            if needed:
                raise LapsbenchError(f"column {name!r} is missing", where=str(self.path), hint="adding it")
            return np.full(self.table.num_rows, absent, np.int32)
        return np.asarray(self.table[name].fill_null(absent).to_numpy())

    def lists(self, name: str) -> tuple[Longs, Bytes]:
        """Return a column of lists as offsets int64 [N + 1] and all values, end to end."""
        chunks = [chunk for chunk in self._whole(name).chunks if len(chunk)]
        lengths = np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in chunks])
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        ends = [(chunk.offsets[0].as_py(), chunk.offsets[-1].as_py()) for chunk in chunks]
        # not `flatten`, which imports all of pyarrow.compute; no list is null
        values = pa.chunked_array([chunk.values[first:end] for chunk, (first, end) in zip(chunks, ends, strict=True)])
        if values.null_count:
            row = int(np.searchsorted(offsets, np.argmax(values.is_null().to_numpy()), side="right")) - 1
            self.fail(name, row, "holds a null", hint="a number for every output token")
        return offsets, values.to_numpy()

    def provenance(self) -> dict[str, Any]:
        """Return the provenance in the metadata; empty where there is none."""
        try:
            return schema.provenance(self.table)
        except ValueError as error:
            what = "the provenance in the metadata is not JSON"
            raise LapsbenchError(what, where=str(self.path), hint="writing the file again") from error

    def refuse(self, bad: NDArray[np.bool_], column: str, values: NDArray[Any], what: str, *, hint: str) -> None:
        """Fail at the first bad row, if there is one, with its value."""
        if np.any(bad):
            row = int(np.argmax(bad))
            self.fail(column, row, f"{values[row]} {what}", hint=hint)

    def fail(self, column: str, row: int, what: str, *, hint: str) -> NoReturn:
        """Say what is wrong in a column at a row, given from 0."""
        raise LapsbenchError(what, where=f"{self.path}: column {column}, row {row + 1}", hint=hint)

    def _whole(self, name: str) -> pa.ChunkedArray:
        column = self.table[name]
        if column.null_count:
            self.fail(name, int(np.argmax(column.is_null().to_numpy())), "is null", hint="a value in every row")
        return column
