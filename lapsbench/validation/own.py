"""Acceptance as requests really had it: read from the steps they were served in, by a first serving, or by a cell.

At temperature 0 what is drafted and accepted is a property of a request's prompt and output, not of its scheduling; but
a pass over another batch adds up in another order, and where two tokens are nearly as likely the text goes another way.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.acceptance.bank import runs_of
from lapsbench.core import Bank
from lapsbench.execution.executor import Executor
from lapsbench.store.step_cells import StepCells

if TYPE_CHECKING:
    import pyarrow as pa

    from lapsbench.core import Bytes, Longs, Trace, Workload


@dataclass(frozen=True, slots=True)
class Had:
    """What every request of a cell accepted and was given, from each of its tokens on.

    Attributes:
        offsets: int64 [N + 1], where each begins.
        runs, drafted: uint8, all end to end.
        starts: where in `runs` rounds with drafts began.
    """

    offsets: Longs
    runs: Bytes
    drafted: Bytes
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
    runs, drafted, starts, at = [], [], [], 0
    for first, last in itertools.pairwise(ends):
        mine = order[first:last]
        given, counts = (drafts[mine].tolist(), emitted[mine].tolist()) if len(mine) else ([0], [1])
        accepted, found = runs_of(given, counts)
        starts.append(at + (np.cumsum(counts) - counts)[np.array(given) > 0])
        runs.append(accepted)
        drafted.append(found)
        at += len(accepted)
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in runs])]).astype(np.int64)
    return Had(offsets, np.concatenate(runs), np.concatenate(drafted), np.concatenate(starts).astype(np.int64))


def names(requests: int) -> np.ndarray:
    """Return what requests are called in a trace and in the recordings of a serving of it."""
    return np.array([str(each) for each in range(requests)], object)


class First(Executor):
    """A serving that is only for what requests accept."""

    def had(self) -> Had:
        """Serve, unless that was done; return what was accepted."""
        self.run()
        steps = StepCells(self.steps.whole.parent)  # as they lie there now
        return had(steps.load(self.key(self.cells[0])), len(self.plan.trace))
