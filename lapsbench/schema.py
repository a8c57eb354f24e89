"""Arrow schemas of every file (docs/files.md), and the one way each is read and written.

Knows columns, types and the schema tag in the metadata; knows nothing of what the numbers mean.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapsbench import files
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TAG = b"lapsbench.schema"
PROVENANCE = b"lapsbench.provenance"
WRITING = MappingProxyType({"compression": "zstd", "write_page_checksum": True})
"""How Parquet is written; where a file has no checksums, a flipped bit can pass for a number."""

TRACE = pa.schema([("arrival_s", pa.float64()), ("prompt_tokens", pa.int32()), ("output_tokens", pa.int32())])
TRACE_OPTIONAL = pa.schema(
    [
        ("category", pa.string()),
        ("client_id", pa.string()),
        ("prompt_id", pa.string()),
        ("predicted_tokens", pa.float64()),
        ("priority", pa.int32()),
    ]
)
COST = pa.schema(
    [
        ("component", pa.string()),
        ("batch_size", pa.int32()),
        ("query_tokens", pa.int32()),
        ("context_tokens", pa.int32()),
        ("time_s", pa.float64()),
        ("time_p10_s", pa.float64()),
        ("time_p90_s", pa.float64()),
        ("repeats", pa.int32()),
        ("verify_tokens", pa.int32()),  # of `mixed` rows, null in others; as the next
        ("chunk_context_tokens", pa.int32()),
    ]
)
ACCEPTANCE = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("category", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("accept_runs", pa.list_(pa.uint8())),
    ]
)
ACCEPTANCE_OPTIONAL = pa.schema([("drafted", pa.list_(pa.uint8()))])
REQUESTS = pa.schema(
    [
        ("policy", pa.dictionary(pa.int32(), pa.string())),
        ("load", pa.float64()),
        ("seed", pa.int32()),
        ("request", pa.int32()),
        ("arrival_s", pa.float64()),
        ("admitted_s", pa.float64()),
        ("first_token_s", pa.float64()),
        ("finished_s", pa.float64()),
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("predicted_tokens", pa.float64()),
        ("rounds", pa.int32()),
        ("accepted_tokens", pa.int32()),
        ("preemptions", pa.int32()),
        ("recomputed_tokens", pa.int64()),
        ("resumes", pa.int32()),
        ("status", pa.dictionary(pa.int32(), pa.string())),
        ("itl_max_s", pa.float64()),
        ("alone_s", pa.float64()),
    ]
)
STEPS = pa.schema(
    [
        ("policy", pa.dictionary(pa.int32(), pa.string())),
        ("load", pa.float64()),
        ("seed", pa.int32()),
        ("step", pa.int32()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("admit_s", pa.float64()),
        ("request", pa.int32()),
        ("tokens", pa.int32()),
        ("cached", pa.int32()),
        ("drafts", pa.int32()),
        ("emitted", pa.int32()),
        ("preempted", pa.bool_()),
    ]
)
VERSIONS = MappingProxyType({"cost": 2, "requests": 2})
"""Of the kinds that have changed since their first version; older ones are still read."""
SUMMARY = pa.schema(
    [
        ("policy", pa.string()),
        ("load", pa.float64()),
        ("seed", pa.int32()),
        ("metric", pa.string()),
        ("statistic", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
    ]
)
TRIALS = pa.schema(
    [
        ("trial", pa.int32()),
        ("phase", pa.string()),
        ("setting", pa.string()),
        ("policy", pa.string()),
        ("look", pa.int32()),
        ("requests", pa.int64()),
        ("seeds", pa.int32()),
        ("keeps_up", pa.bool_()),
        ("value", pa.float64()),
        ("ratio", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("tail", pa.float64()),
        (
            "limits",
            pa.list_(
                pa.struct(
                    [
                        ("value", pa.float64()),
                        ("low", pa.float64()),
                        ("high", pa.float64()),
                        ("beyond", pa.float64()),
                        ("proven", pa.bool_()),
                    ]
                )
            ),
        ),
    ]
)


def write_parquet(
    table: pa.Table,
    path: Path,
    kind: str,
    provenance: Mapping[str, Any] | None = None,
    *,
    extra: Mapping[bytes, bytes] | None = None,
) -> None:
    """Write `table` as `kind`/1 with zstd; the file appears whole or not at all. `extra` is further metadata.

    Raises:
        LapsbenchError: the disk is full, or the folder cannot be written.
    """
    with files.whole(path) as part:
        put_parquet(table, part, kind, provenance, extra=extra)


def put_parquet(
    table: pa.Table,
    part: Path,
    kind: str,
    provenance: Mapping[str, Any] | None = None,
    *,
    extra: Mapping[bytes, bytes] | None = None,
) -> None:
    """Write as `write_parquet` does to a place that `files.whole` gave: for files that appear together."""
    metadata = {TAG: tag_of(kind), **(extra or {})}
    if provenance is not None:
        metadata[PROVENANCE] = json.dumps(provenance, sort_keys=True).encode()
    pq.write_table(table.replace_schema_metadata(metadata), part, **WRITING)


def tag_of(kind: str) -> bytes:
    """Return what a file of this kind says it is."""
    return f"{kind}/{VERSIONS.get(kind, 1)}".encode()


def as_requests(table: pa.Table, names: Sequence[str] = REQUESTS.names) -> pa.Table:
    """Return requests of any version in columns of `REQUESTS`; before version 2 nothing resumed with a token."""
    if "resumes" not in table.schema.names:
        table = table.append_column("resumes", pa.array(np.zeros(len(table), np.int32)))
    return table.select(names).cast(pa.schema([REQUESTS.field(name) for name in names]))


def read_requests(path: Path) -> pa.Table:
    """Read a whole file of requests, of any version.

    Raises:
        LapsbenchError: as for `read_parquet`.
    """
    added = ("resumes",)
    required = pa.schema([field for field in REQUESTS if field.name not in added])
    optional = pa.schema([field for field in REQUESTS if field.name in added])
    return as_requests(read_parquet(path, "requests", required, optional))


def read_parquet(
    path: Path, kind: str, required: pa.Schema, optional: pa.Schema | None = None, content: bytes | None = None
) -> pa.Table:
    """Read a Parquet file and cast it to its schema; unknown columns are left out.

    A file without a schema tag is taken for foreign Parquet: welcome, as long as the columns are there. One that was
    opened before, as a pipe has to be, is read from its content.

    Raises:
        LapsbenchError: no such file, not Parquet, another kind or version, a column missing or of the wrong type.
    """
    try:
        opened = files.parquet(path) if content is None else pa.BufferReader(content)
        with pq.ParquetFile(opened, page_checksum_verification=True) as file:
            table = file.read()
        table.validate(full=True)
    except FileNotFoundError as error:
        raise LapsbenchError("no such file", where=str(path), hint="the full path of the file") from error
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        # the text begins with the path once more
        reason = files.first_line(error).rpartition("': ")[2]
        raise LapsbenchError(
            f"not a readable Parquet file ({reason})", where=str(path), hint="writing or copying it again"
        ) from error
    tag = (table.schema.metadata or {}).get(TAG, b"").decode(errors="replace")
    if tag and tag not in {f"{kind}/{version}" for version in range(1, VERSIONS.get(kind, 1) + 1)}:
        raise LapsbenchError(f"holds {tag!r}, not '{tag_of(kind).decode()}'", where=str(path), hint=f"a {kind} file")
    fields = []
    for wanted in required:
        if wanted.name not in table.schema.names:
            raise LapsbenchError(
                f"column {wanted.name!r} is missing; found {', '.join(table.schema.names) or 'none'}",
                where=str(path),
                hint="renaming the column to it",
            )
        fields.append(wanted)
    fields += [extra for extra in optional or [] if extra.name in table.schema.names]
    for wanted in fields:
        if table.schema.names.count(wanted.name) > 1:
            raise LapsbenchError(
                f"column {wanted.name!r} is there twice", where=str(path), hint="renaming one of the two"
            )
    columns = [_cast(table, wanted, path) for wanted in fields]
    return pa.table(columns, schema=pa.schema(fields, metadata=table.schema.metadata))


def provenance(table: pa.Table) -> dict[str, Any]:
    """Return the provenance stored in the metadata; empty where there is none.

    Raises:
        ValueError: it is damaged.
    """
    text = (table.schema.metadata or {}).get(PROVENANCE, b"{}")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value if isinstance(value, dict) else {}


def _cast(table: pa.Table, wanted: pa.Field, path: Path) -> pa.ChunkedArray:
    try:
        column = table[wanted.name]
        # casting imports all of pyarrow.compute
        return column if column.type == wanted.type else column.cast(wanted.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError) as error:
        raise LapsbenchError(
            f"column {wanted.name!r} does not read as {wanted.type} ({files.first_line(error)})",
            where=str(path),
            hint=f"{wanted.type} values",
        ) from error
