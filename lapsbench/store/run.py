"""A run folder: `requests.parquet`, in row groups of a million requests of a cell, `summary.parquet`, `manifest.json`.

While a run is under way each finished cell lies in `cells/`; the end gathers them. A cell is known by the hash of all
it depends on, so an interrupted or extended run takes finished cells from either place and runs only the others.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapsbench import files
from lapsbench.core import PART
from lapsbench.errors import LapsbenchError
from lapsbench.metrics.drafting import kept, kept_s
from lapsbench.schema import REQUESTS, SUMMARY, TAG, WRITING, as_requests, put_parquet, tag_of
from lapsbench.store.lock import FolderLock, names_in
from lapsbench.store.rows import SCALARS, joined, outcome_of, table_of
from lapsbench.store.step_cells import StepCells

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lapsbench.core import Outcome, Workload

Kind = Literal["simulated", "executed"]
CELLS = b"lapsbench.cells"
ESTIMATES = b"lapsbench.estimates"
PATIENCE = b"lapsbench.patience"
GROUPS = "row_groups"
"""Of a cell in its facts, where it has more than one."""
MANIFEST = "lapsbench.run/1"
DAMAGED = (OSError, pa.ArrowException, LookupError, ValueError, TypeError, AttributeError)
"""What reading a damaged or foreign file of cells may raise."""


@dataclass(frozen=True, slots=True)
class CellKey:
    """A cell as the files know it: what it is called, and the hash of all it depends on."""

    policy: str
    load: float | None
    seed: int
    key: str


def content_key(*parts: object) -> str:
    """Hash anything JSON-able and any arrays, in order."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(str(part.dtype).encode())
            flat = part.astype(str) if part.dtype == object else part
            digest.update(np.ascontiguousarray(flat).tobytes())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]


class RunFolder:
    """One run folder, open for writing by one command at a time until `close`.

    Attributes:
        steps: those of its cells, where they were served for real.

    Raises:
        LapsbenchError: the folder cannot be made, holds something that is not a run or is one of another `kind` or
            another engine's `rules`, or another command writes there.
    """

    def __init__(self, folder: Path, rules: str, kind: Kind = "simulated") -> None:
        self.folder = folder
        self.parts = folder / "cells"
        try:
            _refuse_foreign(folder, rules, kind)
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or error
            raise LapsbenchError(
                f"cannot make the folder: {reason}", where=str(folder), hint="another --out"
            ) from error
        self._lock = FolderLock(folder)
        self.remark = self._lock.remark
        try:
            self.parts.mkdir(exist_ok=True)
        except OSError as error:
            self.close()
            raise files.cannot_write(error, str(folder)) from error
        self._gathered = cells_of(folder / "requests.parquet")
        self.steps = StepCells(folder) if kind == "executed" else None

    def close(self) -> None:
        """Let the next command in."""
        self._lock.release()

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write `manifest.json`: everything needed to run this again."""
        with files.whole(self.folder / "manifest.json") as part:
            part.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def replaced(self, keys: list[CellKey]) -> int:
        """Say how many cells of an earlier command `gather(keys)` leaves behind."""
        return len(self._gathered.keys() - {key.key for key in keys})

    def finished(self, key: CellKey, alone_s: np.ndarray[Any, Any]) -> Outcome | None:
        """Return a cell's outcome if it is on disk, readable, and of as many requests as there are."""
        part = self._part(key)
        try:
            if not part.exists() and key.key not in self._gathered:
                return None
            if self.steps is not None and not self.steps.has(key):
                return None
            scalars = self._facts_of(key)
            parts = (outcome_of(table, scalars, np.empty(len(table))) for table in self._tables(key))
            return replace(joined(parts, len(alone_s)), alone_s=alone_s)
        except DAMAGED:
            return None  # run it again

    def keep(self, key: CellKey, work: Workload, outcome: Outcome) -> None:
        """Put a finished cell on disk at once."""
        write_cell(self._part(key), key, work, outcome)

    def put(self, key: CellKey, content: bytes) -> None:
        """Put on disk what `write_cell` has written elsewhere."""
        with files.whole(self._part(key)) as part:
            part.write_bytes(content)

    def gather(
        self,
        keys: list[CellKey],
        summary: Mapping[str, list[Any]],
        estimates: list[dict[str, Any]] | None = None,
        patience: list[dict[str, Any]] | None = None,
    ) -> None:
        """Write `requests.parquet`, and `summary.parquet` with estimates and more in its metadata; let the parts go."""
        extra = {ESTIMATES: json.dumps(estimates or []).encode(), PATIENCE: json.dumps(patience or []).encode()}
        schema = REQUESTS.with_metadata({TAG: tag_of("requests")})
        # all are written before any appears: a report that is being made meanwhile finds those of one run
        with ExitStack() as opened:
            requests = opened.enter_context(files.whole(self.folder / "requests.parquet"))
            with pq.ParquetWriter(requests, schema, **WRITING) as writer:
                facts = [self._copy(key, writer, schema) for key in keys]
                writer.add_key_value_metadata({CELLS: json.dumps(facts).encode()})
            if self.steps is not None:
                self.steps.gather(keys, opened.enter_context(files.whole(self.steps.whole)))
            part = opened.enter_context(files.whole(self.folder / "summary.parquet"))
            put_parquet(pa.table(summary, schema=SUMMARY), part, "summary", extra=extra)
        shutil.rmtree(self.parts, ignore_errors=True)

    def _copy(self, key: CellKey, writer: pq.ParquetWriter, schema: pa.Schema) -> dict[str, Any]:
        """Write the requests of a finished cell where they stay, and return its facts."""
        try:
            groups = 0
            for table in self._tables(key):
                writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=PART)
                groups += max(-(-len(table) // PART), 1)
            facts = {name: value for name, value in self._facts_of(key).items() if name != GROUPS}
            return facts | ({GROUPS: groups} if groups > 1 else {})
        except LookupError as error:
            what = f"the finished cell of {key.policy}, seed {key.seed}, is gone"
            raise LapsbenchError(
                what, where=str(self.folder), hint="the same command again, and nothing else"
            ) from error

    def _part(self, key: CellKey) -> Path:
        return self.parts / f"{key.key}.parquet"

    def _facts_of(self, key: CellKey) -> dict[str, Any]:
        part = self._part(key)
        if part.exists():
            found: dict[str, Any] = json.loads(pq.read_metadata(part).metadata[CELLS])[0]
            return found
        return self._gathered[key.key][1]

    def _tables(self, key: CellKey) -> Iterator[pa.Table]:
        """Read a cell, row group by row group."""
        part = self._part(key)
        path = part if part.exists() else self.folder / "requests.parquet"
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups) if part.exists() else self._gathered[key.key][0]:
                yield as_requests(file.read_row_group(group))


def write_cell(path: Path, key: CellKey, work: Workload, outcome: Outcome) -> None:
    """Write a finished cell, as it lies in `cells/`, row group by row group."""
    metadata = {TAG: tag_of("requests"), CELLS: json.dumps([_facts(key, outcome)]).encode()}
    schema = REQUESTS.with_metadata(metadata)
    with files.whole(path) as part, pq.ParquetWriter(part, schema, **WRITING) as writer:
        for first in range(0, max(len(work), 1), PART):
            rows = table_of(key, work, outcome, slice(first, first + PART))
            writer.write_table(rows.replace_schema_metadata(metadata), row_group_size=PART)


def _refuse_foreign(folder: Path, rules: str, kind: Kind) -> None:
    """Leave alone what is not a run, or the beginning of one, of this kind on this engine."""
    there = names_in(folder)
    if "manifest.json" in there:
        what = "holds a manifest.json that is not of a run"
        try:
            manifest = json.loads((folder / "manifest.json").read_bytes())
            mine = manifest["schema"] == MANIFEST
            theirs = manifest.get("rules", "ideal")  # runs made before there were two have none
            other = manifest.get("kind", "simulated")
        except (LookupError, ValueError, TypeError):
            mine = False
        else:
            if mine and other != kind:
                mine, what = False, f"holds a run that was {other}, and this one is {kind}"
            elif mine and theirs != rules:
                mine, what = False, f"holds a run of the {theirs} engine, and this is one of the {rules} engine"
    else:
        mine = there <= {"cells"}
        what = "holds files, but no run"
    if not mine:
        raise LapsbenchError(what, where=str(folder), hint="a new or empty --out folder")


def cells_of(path: Path) -> dict[str, tuple[range, dict[str, Any]]]:
    """Map the key of each gathered cell to its row groups and facts; empty where they are not as we wrote them."""
    try:
        facts = facts_of(path)
        ends = list(accumulate(int(each.get(GROUPS, 1)) for each in facts))
        if pq.read_metadata(path).num_row_groups != (ends[-1] if ends else 0):
            return {}
        groups = map(range, [0, *ends], ends)
        return {each["key"]: (mine, each) for mine, each in zip(groups, facts, strict=True)}
    except DAMAGED:
        return {}


def facts_of(path: Path) -> list[dict[str, Any]]:
    """Return what `requests.parquet` says of its cells; nothing where it does not."""
    try:
        found: list[dict[str, Any]] = json.loads((pq.read_metadata(path).metadata or {})[CELLS])
    except DAMAGED:
        return []
    return found


def _facts(key: CellKey, outcome: Outcome) -> dict[str, Any]:
    scalars = {name: getattr(outcome, name) for name in SCALARS}
    drafts = {"by_batch": kept(outcome.by_batch), "by_drafts_s": kept_s(outcome.by_drafts_s)}
    return {"key": key.key, "policy": key.policy, "load": key.load, "seed": key.seed, **scalars, **drafts}
