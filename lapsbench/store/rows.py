"""The requests of a cell as rows of `requests.parquet`, and back."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lapsbench.core import STATUS, Outcome
from lapsbench.metrics.drafting import of_kept, of_kept_s
from lapsbench.schema import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lapsbench.core import Workload
    from lapsbench.store.run import CellKey

SCALARS = ("steps", "makespan_s", "lookups", "lookups_beyond", "stopped")
"""Fields of `Outcome` that stand in the facts of a cell."""


def table_of(key: CellKey, work: Workload, outcome: Outcome, rows: slice) -> pa.Table:
    """Return some of the requests of a cell as rows of `REQUESTS`."""
    places = np.arange(len(work), dtype=np.int32)[rows]
    n = len(places)
    columns = {
        "policy": _repeated(key.policy, n),
        "load": pa.nulls(n, pa.float64()) if key.load is None else np.full(n, key.load),
        "seed": np.full(n, key.seed, np.int32),
        "request": places,
        "arrival_s": work.arrival_s[rows],
        "admitted_s": _nullable(outcome.admitted_s[rows]),
        "first_token_s": _nullable(outcome.first_token_s[rows]),
        "finished_s": _nullable(outcome.finished_s[rows]),
        "prompt_tokens": work.prompt_tokens[rows],
        "output_tokens": work.output_tokens[rows],
        "predicted_tokens": work.predicted_tokens[rows],
        "rounds": outcome.rounds[rows],
        "accepted_tokens": outcome.accepted_tokens[rows],
        "preemptions": outcome.preemptions[rows],
        "recomputed_tokens": outcome.recomputed_tokens[rows],
        "resumes": outcome.resumes[rows],
        "status": pa.DictionaryArray.from_arrays(outcome.status[rows].astype(np.int32), list(STATUS)),
        "itl_max_s": _nullable(outcome.itl_max_s[rows]),
        "alone_s": outcome.alone_s[rows],
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


OF_ALL = (*SCALARS, "by_batch", "by_drafts_s")
"""Fields of `Outcome` that are not of one value per request."""


def joined(parts: Iterable[Outcome], count: int) -> Outcome:
    """Return the outcome of a whole cell of `count` requests from those of its parts, in order.

    Raises:
        ValueError: there are more or fewer requests.
    """
    arrays: dict[str, Any] = {}
    names = [each.name for each in fields(Outcome) if each.name not in OF_ALL]
    first = 0
    for part in parts:
        for name in names:
            values = getattr(part, name)
            arrays.setdefault(name, np.empty(count, values.dtype))[first : first + len(values)] = values
        first += len(part.status)
    if first != count:
        raise ValueError(f"{first} requests, not {count}")
    return replace(part, **arrays)


def plain(column: pa.Array) -> np.ndarray[Any, Any]:
    """Return a column as an array: a status as its place in `STATUS`, NaN for what is missing."""
    if isinstance(column, pa.DictionaryArray):
        return _status(column)
    found: np.ndarray[Any, Any] = column.to_numpy(zero_copy_only=False)
    return found


def _status(column: pa.DictionaryArray) -> np.ndarray[Any, Any]:
    places = np.array([STATUS.index(name) for name in column.dictionary.to_pylist()], np.uint8)
    return np.asarray(places[column.indices.to_numpy()], np.uint8)


def _nullable(values: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(values, from_pandas=True)


def _repeated(value: str, n: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [value])
