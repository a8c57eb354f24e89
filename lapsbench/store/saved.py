"""A finished run folder, open for reading: its manifest, its cells, and the requests of one cell at a time.

Knows files; knows nothing of metrics, and nothing of how the run was made.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapsbench import schema
from lapsbench.core import PART
from lapsbench.errors import LapsbenchError
from lapsbench.store.lock import writer
from lapsbench.store.rows import SCALARS, joined, outcome_of, plain
from lapsbench.store.run import DAMAGED, ESTIMATES, MANIFEST, PATIENCE, cells_of, facts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lapsbench.core import Floats, Ints, Outcome

AGAIN = "the same command with this `--out` again: it keeps what is whole"
PARTS = MappingProxyType(
    {
        "cells": list,
        "engine": dict,
        "oracles": list,
        "profile": dict,
        "scenario": dict,
        "sources": dict,
        "trace": dict,
        "versions": dict,
    }
)
"""What a manifest must hold for a report."""
CELL = frozenset({"policy", "load", "seed", "key"})
COLUMNS = MappingProxyType({"arrival_s": np.float64, "prompt_tokens": np.int32, "output_tokens": np.int32})
"""Of `Requests`, beside their outcome."""
LEFT = frozenset({"policy", "load", "seed", "request", "predicted_tokens"})
"""Columns that nothing is made of: reading them is a quarter of reading."""
READ = tuple(name for name in schema.REQUESTS.names if name not in LEFT)
Item = TypeVar("Item")
SummaryKey = tuple[str, float | None, int | None, str, str]


@dataclass(frozen=True, slots=True)
class SavedCell:
    """A cell, where its requests are, and what only the whole cell has (steps, look-ups, why it stopped).

    Attributes:
        rows: its row groups, or the first row and how many.
    """

    policy: str
    load: float | None
    seed: int
    rows: range | tuple[int, int]
    scalars: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests of one cell, in arrival order."""

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    outcome: Outcome


class SavedRun:
    """One finished run folder.

    Attributes:
        manifest: as JSON; `part` reads it, and says what is missing.
        cells: in the order they were replayed in.

    Raises:
        LapsbenchError: not a run folder, or one that has not been finished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _manifest(folder)
        path = folder / "requests.parquet"
        if not path.exists():
            raise _unfinished(folder)
        listed = cells_of(path).values()
        self.cells = [
            SavedCell(facts["policy"], facts["load"], facts["seed"], group, facts) for group, facts in listed
        ] or _scan(path)
        self._belong_together()

    def _belong_together(self) -> None:
        """Refuse the requests of an earlier command, which a new one has not replaced before it was interrupted."""
        wanted = {(cell["policy"], cell["load"], cell["seed"]): cell["key"] for cell in self.part("cells")}
        found = {(cell.policy, cell.load, cell.seed): cell.scalars.get("key") for cell in self.cells}
        if wanted.keys() != found.keys() or any(key not in (None, wanted[cell]) for cell, key in found.items()):
            raise _unfinished(self.folder)

    def part(self, *keys: str) -> Any:
        """Return a value of the manifest by the keys that lead to it."""
        value: Any = self.manifest
        for key in keys:
            try:
                value = value[key]
            except (LookupError, TypeError) as error:
                where = str(self.folder / "manifest.json")
                raise LapsbenchError(f"{'.'.join(keys)} is missing", where=where, hint=AGAIN) from error
        return value

    @cached_property
    def summary(self) -> dict[SummaryKey, tuple[float | None, float | None, float | None, int]]:
        """The rows of summary.parquet: value, low, high and n by policy, load, seed, metric and statistic."""
        table = schema.read_parquet(self.folder / "summary.parquet", "summary", schema.SUMMARY)
        rows = zip(*(table[name].to_pylist() for name in table.schema.names), strict=True)
        return {(policy, load, seed, metric, kind): tuple(rest) for policy, load, seed, metric, kind, *rest in rows}

    def size(self, cell: SavedCell) -> int:
        """Return how many requests a cell has."""
        return self._count(cell.rows)

    def _count(self, rows: range | tuple[int, int]) -> int:
        if not isinstance(rows, range):
            return rows[1]
        with self._legibly():
            return sum(int(self._file.metadata.row_group(group).num_rows) for group in rows)

    def span_s(self, cell: SavedCell) -> tuple[float, float]:
        """Return when the first and the last request of a cell arrive."""
        with self._legibly():
            if isinstance(cell.rows, range):
                ends = (cell.rows[0], cell.rows[-1])
                arrival_s = self._file.read_row_groups(ends, columns=["arrival_s"])["arrival_s"].to_numpy()
            else:
                arrival_s = self._all["arrival_s"].slice(*cell.rows).to_numpy()
            return float(arrival_s[0]), float(arrival_s[-1])

    def requests(self, cell: SavedCell) -> Requests:
        """Read the requests of one cell."""
        count = self.size(cell)
        if count <= PART:
            return self._requests(cell, cell.rows)
        own = {name: np.empty(count, kind) for name, kind in COLUMNS.items()}

        def outcomes() -> Iterator[Outcome]:
            first = 0
            for part in self.parts(cell):
                for name, values in own.items():
                    values[first : first + len(part.arrival_s)] = getattr(part, name)
                first += len(part.arrival_s)
                yield part.outcome

        outcome = joined(outcomes(), count)
        return Requests(**own, outcome=outcome)

    def parts(self, cell: SavedCell) -> Iterator[Requests]:
        """Read the requests of one cell, some after the others."""
        return ahead(self._requests(cell, rows) for rows in self._pieces(cell))

    def _pieces(self, cell: SavedCell) -> Iterator[range | tuple[int, int]]:
        if isinstance(cell.rows, range):
            yield from (range(group, group + 1) for group in cell.rows)
            return
        first, count = cell.rows
        yield from ((start, min(PART, first + count - start)) for start in range(first, first + count, PART))

    def columns(self, cell: SavedCell, *names: str) -> Iterator[dict[str, Any]]:
        """Read some columns of `REQUESTS` of one cell, some requests after the others; seconds that never came: NaN."""
        return ahead(self._columns(rows, names) for rows in self._pieces(cell))

    def rows(self, cell: SavedCell, places: Sequence[int], *names: str) -> dict[str, Any]:
        """Read some columns of a few requests of a cell, by their places in it; there must be one."""
        found: list[dict[str, Any]] = []
        before, wanted = 0, np.array(places)
        for piece in self._pieces(cell):
            size = self._count(piece)
            mine = wanted[(wanted >= before) & (wanted < before + size)] - before
            if len(mine):
                found.append({name: values[mine] for name, values in self._columns(piece, names).items()})
            before += size
        return {name: np.concatenate([part[name] for part in found]) for name in names}

    def _columns(self, rows: range | tuple[int, int], names: Sequence[str]) -> dict[str, Any]:
        with self._legibly():
            table = self._table(rows, names)
            return {name: plain(table[name].combine_chunks()) for name in names}

    def _requests(self, cell: SavedCell, rows: range | tuple[int, int]) -> Requests:
        with self._legibly():
            table = self._table(rows, READ)
            whole = {name: _whole(table, name) for name in ("arrival_s", "alone_s")}
            counts = {name: _whole(table, name).astype(np.int32) for name in ("prompt_tokens", "output_tokens")}
            outcome = outcome_of(table, cell.scalars, whole.pop("alone_s"))
        return Requests(**whole, **counts, outcome=outcome)

    @contextmanager
    def _legibly(self) -> Iterator[None]:
        """Say in one line what cannot be read."""
        try:
            yield
        except DAMAGED as error:
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            where = str(self.folder / "requests.parquet")
            raise LapsbenchError(f"cannot be read ({reason})", where=where, hint=AGAIN) from error

    def _table(self, rows: range | tuple[int, int], names: Sequence[str]) -> pa.Table:
        if not isinstance(rows, range):
            return self._all.slice(*rows).select(names)
        return schema.as_requests(self._file.read_row_groups(list(rows), columns=list(names)), names)

    @cached_property
    def _file(self) -> pq.ParquetFile:
        """The file, opened once: a command that replaces it meanwhile does not change what is read."""
        return pq.ParquetFile(self.folder / "requests.parquet", page_checksum_verification=True)

    @cached_property
    def _all(self) -> pa.Table:
        return schema.read_requests(self.folder / "requests.parquet")

    def estimates(self) -> list[dict[str, Any]]:
        """Return how soon a request's rounds told its acceptance; nothing where the run did not keep it."""
        return self._told(ESTIMATES)

    def patience(self) -> list[dict[str, Any]]:
        """Return mean and tail of work-patient by load and patience; nothing where the run did not keep them."""
        return self._told(PATIENCE)

    def _told(self, key: bytes) -> list[dict[str, Any]]:
        try:
            metadata = pq.read_metadata(self.folder / "summary.parquet").metadata or {}
            found: list[dict[str, Any]] = json.loads(metadata.get(key, b"[]"))
        except DAMAGED:
            return []
        return found


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield what an iterator yields, the next one made meanwhile: reading leaves a core to what is made of it."""
    with ThreadPoolExecutor(1, "reading") as reader:
        coming = reader.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = reader.submit(next, items, None)
            yield item


def _unfinished(folder: Path) -> LapsbenchError:
    if busy := writer(folder):
        return LapsbenchError(f"the run is being written by {busy}", where=str(folder), hint="again when it is done")
    return LapsbenchError("the run is not finished", where=str(folder), hint=AGAIN)


def _scan(path: Path) -> list[SavedCell]:
    """Find the cells of a file that somebody else wrote: rows of one cell must follow each other."""
    wanted = pa.schema([("policy", pa.string()), ("load", pa.float64()), ("seed", pa.int32())])
    table = schema.read_parquet(path, "requests", wanted)
    keys = list(zip(*(table[name].to_pylist() for name in wanted.names), strict=True))
    starts = [place for place, key in enumerate(keys) if place == 0 or key != keys[place - 1]]
    found = [keys[start] for start in starts]
    if not found or len(set(found)) < len(found):
        what = "holds no requests" if not found else "mixes the rows of its cells"
        raise LapsbenchError(what, where=str(path), hint=AGAIN)
    facts = {(each.get("policy"), each.get("load"), each.get("seed")): each for each in facts_of(path)}
    unknown = dict.fromkeys(SCALARS, 0) | {"stopped": ""}
    ends = [*starts[1:], len(keys)]
    return [
        SavedCell(policy, load, seed, (start, end - start), unknown | facts.get((policy, load, seed), {}))
        for (policy, load, seed), start, end in zip(found, starts, ends, strict=True)
    ]


def _whole(table: Any, name: str) -> Any:
    if table[name].null_count:
        raise ValueError(f"column {name} holds a null")
    return table[name].combine_chunks().to_numpy()


def _manifest(folder: Path) -> dict[str, Any]:
    hint = "the folder given to `--out` of replay or execute"
    try:
        found = json.loads((folder / "manifest.json").read_bytes())
        known = found["schema"] == MANIFEST
    except (FileNotFoundError, NotADirectoryError) as error:
        if writer(folder):  # it has just begun
            raise _unfinished(folder) from error
        what = "no such run folder" if not folder.exists() else "is not a run folder: it has no manifest.json"
        raise LapsbenchError(what, where=str(folder), hint=hint) from error
    except (OSError, LookupError, ValueError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "not JSON of a run"
        raise LapsbenchError(f"cannot be read ({reason})", where=str(folder / "manifest.json"), hint=hint) from error
    if not known:
        raise LapsbenchError(f"holds {found['schema']!r}, not {MANIFEST!r}", where=str(folder), hint=hint)
    damaged = [key for key, kind in PARTS.items() if not isinstance(found.get(key), kind)]
    if damaged or not all(isinstance(cell, dict) and cell.keys() >= CELL for cell in found["cells"]):
        what = f"{', '.join(damaged) or 'cells'} cannot be read"
        raise LapsbenchError(what, where=str(folder / "manifest.json"), hint=AGAIN)
    return dict(found)
