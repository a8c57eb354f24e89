"""Sorts the rows of somebody else's log: who was served, who failed, who is dropped; every row is kept or counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl

from lapsbench.core import Trace
from lapsbench.traces import check
from lapsbench.traces.frame import count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lapsbench.core import Bools, Floats, Ints, Strings
    from lapsbench.traces.clock import Arrivals
    from lapsbench.traces.columns import Ok
    from lapsbench.traces.frame import Table
    from lapsbench.traces.readers.reader import Failed

_T = TypeVar("_T", bound=np.generic)


def failures(table: Table, ok: Ok | None) -> Bools:
    """Return bool [N], which requests did not end as `ok` says they should; none where the file does not tell."""
    if ok is None or ok.column not in table.frame.columns:
        return np.zeros(table.frame.height, dtype=np.bool_)
    ends = table.frame[ok.column].cast(pl.String).fill_null("").str.strip_chars().str.to_lowercase()
    return (~ends.is_in(ok.values)).to_numpy(writable=True)


def served(
    table: Table,
    reader: str,
    failed: Failed,
    *,
    arrivals: Arrivals,
    prompt_tokens: Ints,
    output_tokens: Ints,
    failures: Bools | None = None,
    unsent: Bools | None = None,
    category: Strings | None = None,
    client_id: Strings | None = None,
    prompt_id: Strings | None = None,
    predicted_tokens: Floats | None = None,
    priority: Ints | None = None,
) -> Trace:
    """Return the requests of somebody else's log, the first arrival at 0.

    Rows without a prompt are dropped and counted, and so are those that failed, as `failures` say or for lack of any
    output, unless `failed` is "keep": then they ask for one token. Those of them that were never sent (`unsent`) have
    no arrival to keep.
    """
    none = np.zeros(len(output_tokens), dtype=np.bool_)
    sorted_out = _sorted_out(
        prompt_tokens > 0,
        output_tokens > 0,
        none if failures is None else failures,
        none if unsent is None else unsent,
        keep=failed == "keep",
    )
    kept = ~sorted_out.dropped
    output_tokens = np.where(sorted_out.failed, np.int32(1), output_tokens)
    notes = [f"{count(int(rows.sum()), table.source.row)} {fate}" for rows, fate in sorted_out.fates if rows.any()]
    rows = slice(None) if kept.all() else kept
    since_s = arrivals.since_s[rows]

    def pick(column: NDArray[_T] | None) -> NDArray[_T] | None:
        return None if column is None else column[rows]

    return Trace(
        name="",
        arrival_s=since_s - (since_s.min() if len(since_s) else 0.0),
        prompt_tokens=prompt_tokens[rows],
        output_tokens=output_tokens[rows],
        category=pick(category),
        client_id=pick(client_id),
        prompt_id=pick(prompt_id),
        predicted_tokens=pick(predicted_tokens),
        priority=pick(priority),
        notes=(*table.notes, *arrivals.notes, *notes),
        provenance={
            **check.origin(table, reader),
            **arrivals.origin(rows),
            "rows_dropped": int(len(kept) - kept.sum()),
        },
    )


@dataclass(frozen=True, slots=True)
class _SortedOut:
    """Rows [N] that failed, those that are dropped, and what is said of whom."""

    failed: Bools
    dropped: Bools
    fates: tuple[tuple[Bools, str], ...]


def _sorted_out(has_prompt: Bools, has_output: Bools, failures: Bools, unsent: Bools, *, keep: bool) -> _SortedOut:
    """Give every row one fate; a row that is to be kept although it failed needs a prompt and an arrival."""
    never = unsent & keep
    told = failures & ~never & (has_prompt | (not keep))
    without_prompt = ~told & ~never & ~has_prompt
    silent = ~told & ~never & has_prompt & ~has_output
    fate = "kept with 1 output token" if keep else "dropped"
    fates = (
        (never, "failed without a start time: dropped"),
        (without_prompt, "with no prompt tokens: dropped"),
        (told, f"that failed: {fate}"),
        (silent, f"with no output tokens (failed): {fate}"),
    )
    failed = told | silent
    return _SortedOut(failed, never | without_prompt | (failed & (not keep)), fates)
