"""A run folder: `requests.parquet` with a row group per cell, `summary.parquet`, `manifest.json`.

While a run is under way each finished cell lies in `cells/`; the end gathers them. A cell is known by the hash of all
it depends on, so an interrupted or extended run takes finished cells from either place and runs only the others.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapsbench import files
from lapsbench.core import STATUS, Outcome
from lapsbench.errors import LapsbenchError
from lapsbench.metrics.drafting import kept, kept_s, of_kept, of_kept_s
from lapsbench.schema import REQUESTS, SUMMARY, TAG, WRITING, as_requests, put_parquet, tag_of, write_parquet
from lapsbench.store.lock import FolderLock, names_in
from lapsbench.store.step_cells import StepCells

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lapsbench.core import Workload

Kind = Literal["simulated", "executed"]
CELLS = b"lapsbench.cells"
ESTIMATES = b"lapsbench.estimates"
PATIENCE = b"lapsbench.patience"
MANIFEST = "lapsbench.run/1"
DAMAGED = (OSError, pa.ArrowException, LookupError, ValueError, TypeError, AttributeError)
"""What reading a damaged or foreign file of cells may raise."""
SCALARS = ("steps", "makespan_s", "lookups", "lookups_beyond", "stopped")


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
            table, scalars = self._load(key)
            return outcome_of(as_requests(table), scalars, alone_s) if len(table) == len(alone_s) else None
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
        facts: list[dict[str, Any]] = []
        # all are written before any appears: a report that is being made meanwhile finds those of one run
        with ExitStack() as opened:
            requests = opened.enter_context(files.whole(self.folder / "requests.parquet"))
            with pq.ParquetWriter(requests, schema, **WRITING) as writer:
                for key in keys:
                    table, fact = self._load_again(key)
                    table = as_requests(table).replace_schema_metadata(schema.metadata)
                    writer.write_table(table, row_group_size=2**31)
                    facts.append(fact)
                writer.add_key_value_metadata({CELLS: json.dumps(facts).encode()})
            if self.steps is not None:
                self.steps.gather(keys, opened.enter_context(files.whole(self.steps.whole)))
            part = opened.enter_context(files.whole(self.folder / "summary.parquet"))
            put_parquet(pa.table(summary, schema=SUMMARY), part, "summary", extra=extra)
        shutil.rmtree(self.parts, ignore_errors=True)

    def _load_again(self, key: CellKey) -> tuple[pa.Table, dict[str, Any]]:
        try:
            return self._load(key)
        except LookupError as error:
            what = f"the finished cell of {key.policy}, seed {key.seed}, is gone"
            raise LapsbenchError(
                what, where=str(self.folder), hint="the same command again, and nothing else"
            ) from error

    def _part(self, key: CellKey) -> Path:
        return self.parts / f"{key.key}.parquet"

    def _load(self, key: CellKey) -> tuple[pa.Table, dict[str, Any]]:
        part = self._part(key)
        if part.exists():
            with pq.ParquetFile(part, page_checksum_verification=True) as file:
                table = file.read()
            return table, json.loads(table.schema.metadata[CELLS])[0]
        row_group, facts = self._gathered[key.key]
        with pq.ParquetFile(self.folder / "requests.parquet", page_checksum_verification=True) as file:
            return file.read_row_group(row_group), facts


def write_cell(path: Path, key: CellKey, work: Workload, outcome: Outcome) -> None:
    """Write a finished cell, as it lies in `cells/`."""
    table = _table(key, work, outcome)
    metadata = json.dumps([_facts(key, outcome)]).encode()
    write_parquet(table, path, "requests", extra={CELLS: metadata})


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


def cells_of(path: Path) -> dict[str, tuple[int, dict[str, Any]]]:
    """Map the key of each gathered cell to its row group and facts; empty where they are not as we wrote them."""
    try:
        facts = facts_of(path)
        if pq.read_metadata(path).num_row_groups != len(facts):
            return {}
        return {each["key"]: (i, each) for i, each in enumerate(facts)}
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


def _table(key: CellKey, work: Workload, outcome: Outcome) -> pa.Table:
    n = len(work)
    columns = {
        "policy": _repeated(key.policy, n),
        "load": pa.nulls(n, pa.float64()) if key.load is None else np.full(n, key.load),
        "seed": np.full(n, key.seed, np.int32),
        "request": np.arange(n, dtype=np.int32),
        "arrival_s": work.arrival_s,
        "admitted_s": _nullable(outcome.admitted_s),
        "first_token_s": _nullable(outcome.first_token_s),
        "finished_s": _nullable(outcome.finished_s),
        "prompt_tokens": work.prompt_tokens,
        "output_tokens": work.output_tokens,
        "predicted_tokens": work.predicted_tokens,
        "rounds": outcome.rounds,
        "accepted_tokens": outcome.accepted_tokens,
        "preemptions": outcome.preemptions,
        "recomputed_tokens": outcome.recomputed_tokens,
        "resumes": outcome.resumes,
        "status": pa.DictionaryArray.from_arrays(outcome.status.astype(np.int32), list(STATUS)),
        "itl_max_s": _nullable(outcome.itl_max_s),
        "alone_s": outcome.alone_s,
    }
    return pa.table(columns, schema=REQUESTS)


def outcome_of(table: pa.Table, scalars: Mapping[str, Any], alone_s: np.ndarray[Any, Any]) -> Outcome:
    """Return what became of the requests of one cell: `table` has the columns of `REQUESTS`."""

    def column(name: str) -> Any:
        return table[name].combine_chunks().to_numpy(zero_copy_only=False)

    return Outcome(
        **{
            name: column(name).astype(np.float64) for name in ("admitted_s", "first_token_s", "finished_s", "itl_max_s")
        },
        **{name: column(name).astype(np.int32) for name in ("rounds", "accepted_tokens", "preemptions", "resumes")},
        recomputed_tokens=column("recomputed_tokens").astype(np.int64),
        status=_status(table["status"].combine_chunks()),
        alone_s=alone_s,
        **{name: scalars[name] for name in SCALARS},
        by_batch=of_kept(scalars.get("by_batch")),
        by_drafts_s=of_kept_s(scalars.get("by_drafts_s")),
    )


def _status(column: pa.DictionaryArray) -> np.ndarray[Any, Any]:
    places = np.array([STATUS.index(name) for name in column.dictionary.to_pylist()], np.uint8)
    return np.asarray(places[column.indices.to_numpy()], np.uint8)


def _nullable(values: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(values, from_pandas=True)


def _repeated(value: str, n: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [value])
