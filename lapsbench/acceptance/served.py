"""Acceptance as requests really had it: read from the steps they were served in.

At temperature 0 what is drafted and accepted is a property of a request's prompt and output, not of its scheduling; but
a pass over another batch adds up in another order, and where two tokens are nearly as likely the text goes another way.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from lapsbench import schema
from lapsbench.acceptance.bank import runs_of
from lapsbench.core import Bank
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    import pyarrow as pa

    from lapsbench.core import Bytes, Longs, Strings, Trace, Workload

STEPS, REQUESTS = "steps.parquet", "requests.parquet"


@dataclass(frozen=True, slots=True)
class Had:
    """What every request of a cell accepted and was given, from each of its tokens on.

    Attributes:
        offsets: int64 [N + 1], where each begins.
        runs, drafted: uint8, all end to end.
        rounds: where in `runs` rounds began; starts: those with drafts.
    """

    offsets: Longs
    runs: Bytes
    drafted: Bytes
    rounds: Longs
    starts: Longs

    def bank(self, trace: Trace, draft_tokens: int, *, varies: bool) -> Bank:
        """Return it as recordings, one for each request, by its place in the trace."""
        return Bank(
            names(len(trace)),
            np.full(len(trace), "", object) if trace.category is None else trace.category,
            trace.prompt_tokens,
            np.diff(self.offsets).astype(np.int32),
            self.offsets,
            self.runs,
            draft_tokens,
            self.drafted if varies else None,
        )

    def given_to(self, work: Workload) -> Workload:
        """Return a workload of the same requests that accepts this."""
        return replace(
            work,
            recording_start=self.offsets[:-1],
            recording_tokens=np.diff(self.offsets).astype(np.int32),
            recording_shift=np.zeros(len(work), np.int32),
            accept_runs=self.runs,
            drafted=self.drafted,
        )

    def alike(self, other: Had) -> float:
        """Return the share of requests that accepted the same here and there, token by token."""
        mine, theirs = (np.split(each.runs, each.offsets[1:-1]) for each in (self, other))
        return float(np.mean([np.array_equal(one, two) for one, two in zip(mine, theirs, strict=True)]))


def had(table: pa.Table, requests: int) -> Had:
    """Read a cell's rows of `steps.parquet`; who emitted nothing has one token that accepts none."""
    request, drafts, emitted = (table[name].to_numpy() for name in ("request", "drafts", "emitted"))
    order = np.lexsort((table["step"].to_numpy(), request))
    order = order[emitted[order] > 0]
    ends = np.searchsorted(request[order], np.arange(requests + 1))
    runs, drafted, rounds, starts, at = [], [], [], [], 0
    for first, last in itertools.pairwise(ends):
        mine = order[first:last]
        given, counts = (drafts[mine].tolist(), emitted[mine].tolist()) if len(mine) else ([0], [1])
        accepted, found = runs_of(given, counts)
        begun = at + np.cumsum(counts) - counts
        rounds.append(begun[1:])  # the first token comes with the prompt
        starts.append(begun[np.array(given) > 0])
        runs.append(accepted)
        drafted.append(found)
        at += len(accepted)
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in runs])]).astype(np.int64)
    ends_to_end = (np.concatenate(each) for each in (runs, drafted, rounds, starts))
    return Had(offsets, *ends_to_end)


def names(requests: int) -> Strings:
    """Return what requests are called in a trace and in the recordings of a serving of it."""
    return np.array([str(each) for each in range(requests)], object)


def is_served(place: str) -> bool:
    """Say whether this is the folder of a run that was served."""
    return (Path(place) / STEPS).is_file() and (Path(place) / REQUESTS).is_file()


def read_served(place: str) -> Bank:
    """Return what the requests of a served run accepted, in its first cell, each under its place in the trace.

    Raises:
        LapsbenchError: the files cannot be read, or nobody drafted.
    """
    steps = schema.read_parquet(Path(place) / STEPS, "steps", schema.STEPS)
    requests = schema.read_parquet(Path(place) / REQUESTS, "requests", schema.REQUESTS)
    steps, requests = (_first_cell(table) for table in (steps, requests))
    most = pc.max(steps["drafts"]).as_py() or 0
    if most == 0:
        raise LapsbenchError("nobody drafted in this run", where=place, hint="a run served with drafts")
    requests = requests.sort_by("request")
    found = had(steps, len(requests))
    lengths = requests["prompt_tokens"].to_numpy()
    fewer = bool(np.any(found.drafted[found.rounds] < most))
    names_, category = names(len(requests)), np.full(len(requests), "", object)
    output = np.diff(found.offsets).astype(np.int32)
    drafted = found.drafted if fewer else None
    return Bank(names_, category, lengths, output, found.offsets, found.runs, most, drafted)


def _first_cell(table: pa.Table) -> pa.Table:
    """Return the rows of the cell that comes first."""
    for name in ("policy", "load", "seed"):
        value = table[name][0]
        table = table.filter(pc.equal(table[name], value) if value.is_valid else pc.is_null(table[name]))
    return table
