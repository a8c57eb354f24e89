"""Two cells side by side: whether they are the same work and fared the same, and, of large ones, the pair itself.

Of more than `core.LARGE` requests a part of each side is in memory at a time; quantiles, and what their intervals are
made of, come from sketches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import FINISHED
from lapsbench.metrics.catalog import BY_NAME
from lapsbench.metrics.change import Pair, share_of
from lapsbench.metrics.definitions import request_metrics
from lapsbench.metrics.in_parts import Part, rows_of
from lapsbench.metrics.statistics import WithoutBlocks
from lapsbench.reading import gathered, gathering
from lapsbench.store.saved import Requests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.metrics.summary import CellSummary
    from lapsbench.store.saved import SavedCell, SavedRun

FATE = (
    "admitted_s",
    "first_token_s",
    "finished_s",
    "rounds",
    "accepted_tokens",
    "preemptions",
    "recomputed_tokens",
    "status",
    "itl_max_s",
    "alone_s",
)
"""What became of a request, as fields of `core.Outcome`."""


def other_work(before: Requests, after: Requests) -> str:
    """Return in which way two cells are not the same requests; "" if they are."""
    if len(before.arrival_s) != len(after.arrival_s):
        return f"{len(before.arrival_s):,} requests and {len(after.arrival_s):,}"
    for name in ("prompt_tokens", "output_tokens"):
        if not np.array_equal(getattr(before, name), getattr(after, name)):
            return f"requests differ in {name}"
    return "" if np.array_equal(before.arrival_s, after.arrival_s) else "requests arrive at other times"


def other_acceptance(before: Requests, after: Requests) -> str:
    """With as many drafts a round, a request takes the same rounds on the ideal engine, if it accepts the same."""
    both = (before.outcome.status == FINISHED) & (after.outcome.status == FINISHED)
    same = np.array_equal(before.outcome.rounds[both], after.outcome.rounds[both])
    return "" if same else "requests accept other drafts"


def identical(before: Requests, after: Requests) -> bool:
    """Whether every request fared exactly the same, down to the last bit."""
    if other_work(before, after):
        return False
    pairs = ((getattr(before.outcome, name), getattr(after.outcome, name)) for name in FATE)
    return all(np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f") for mine, theirs in pairs)


def paired_in_parts(
    runs: tuple[SavedRun, SavedRun],
    cells: tuple[SavedCell, SavedCell],
    metrics: Sequence[str],
    warmup: int,
    *,
    comparable: bool,
) -> tuple[Pair, str]:
    """Return a pair, and in which way its two sides are different work ("" if they are not).

    Args:
        runs: both.
        cells: one of each.
        metrics: that are compared.
        warmup: how many of the first are left out.
        comparable: whether requests that accept the same take as many rounds.
    """
    sides = [_Side(run, cell, metrics, warmup) for run, cell in zip(runs, cells, strict=True)]
    sizes = [run.size(cell) for run, cell in zip(runs, cells, strict=True)]
    if sizes[0] != sizes[1]:
        for side in sides:
            for each in side.run.parts(side.cell):
                side.add(each)
        work, acceptance, same = f"{sizes[0]:,} requests and {sizes[1]:,}", "", False
    else:
        work, acceptance, same = "", "", True
        for both in _in_step(*sides):
            work = work or other_work(*both)
            acceptance = acceptance or (other_acceptance(*both) if comparable else "")
            same = same and identical(*both)
            for side, each in zip(sides, both, strict=True):
                side.add(each)
    other = work or acceptance
    before, after = sides
    without = {} if other else {name: (before.left_out(name), after.left_out(name)) for name in before.without}
    return Pair(before.summary(), after.summary(), same and not work, without), other


class _Side:
    """One of two cells, added up part by part."""

    def __init__(self, run: SavedRun, cell: SavedCell, metrics: Sequence[str], warmup: int) -> None:
        self.run, self.cell, self.warmup = run, cell, warmup
        self.found = gathering(run, cell, warmup)
        shares = {name: share_of(name) for name in metrics}
        size = run.size(cell)
        self.without = {name: WithoutBlocks(share, warmup, size) for name, share in shares.items() if share is not None}

    def add(self, part: Requests) -> None:
        """Add the next requests."""
        first = self.found.seen
        self.found.add(Part(part.arrival_s, part.prompt_tokens, part.output_tokens, part.outcome))
        requests = request_metrics(part.arrival_s, part.output_tokens, part.outcome)
        window = requests.finished & (np.arange(first, first + len(part.arrival_s)) >= self.warmup)
        for name, blocks in self.without.items():
            blocks.add(getattr(requests, BY_NAME[name].quantity), window, first)

    def left_out(self, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Return a quantile with each block left out in turn."""
        return self.without[name].quantiles()

    def summary(self) -> CellSummary:
        """Return the summary of all parts."""
        return gathered(self.run, self.cell, self.found)


def _in_step(before: _Side, after: _Side) -> Iterator[tuple[Requests, Requests]]:
    """Yield the same requests of two cells of one size, some after the others, however their files are cut."""
    sides = before.run.parts(before.cell), after.run.parts(after.cell)
    left: list[Requests | None] = [None, None]
    while True:
        held = [each if each is not None else next(side, None) for each, side in zip(left, sides, strict=True)]
        if held[0] is None or held[1] is None:
            return
        count = min(len(each.arrival_s) for each in held if each is not None)
        yield _rows(held[0], slice(count)), _rows(held[1], slice(count))
        left = [None if len(each.arrival_s) == count else _rows(each, slice(count, None)) for each in held if each]


def _rows(found: Requests, rows: slice) -> Requests:
    if rows.start is None and rows.stop == len(found.arrival_s):
        return found
    return Requests(
        arrival_s=found.arrival_s[rows],
        prompt_tokens=found.prompt_tokens[rows],
        output_tokens=found.output_tokens[rows],
        outcome=rows_of(found.outcome, rows),
    )
