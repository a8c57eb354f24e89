"""What becomes of a cell's result: numbers, and the file it is kept in. Done wherever the cell was replayed.

Writing a cell's file and boiling it down take a fifth of the time of replaying it: left to one process, that would be
all that a hundred workers wait for.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lapsbench.core import LARGE
from lapsbench.metrics.in_parts import summarize_in_parts
from lapsbench.metrics.summary import summarize
from lapsbench.metrics.warmup import backlog_s, warmup_cut
from lapsbench.store.run import write_cell

if TYPE_CHECKING:
    from lapsbench.metrics.slo import Slo
    from lapsbench.metrics.summary import CellSummary
    from lapsbench.sim.sweep import Cell, Result
    from lapsbench.store.run import CellKey

Where = tuple[str, float | None, int]


@dataclass(frozen=True, slots=True)
class Boiled:
    """A cell in numbers.

    Attributes:
        summary: of its requests, without the first `cut`.
        content: of its file; b"" if that was not asked for.
    """

    summary: CellSummary
    cut: int
    content: bytes = b""


@dataclass(frozen=True)
class Boiling:
    """How to boil a result down.

    Attributes:
        capacity_rps: what the warm-up is judged by.
        keys: by which the cells are known that are to be written.
    """

    slo: Slo | None
    capacity_rps: float
    keys: dict[Where, CellKey] = field(default_factory=dict)

    def __call__(self, result: Result) -> Boiled:
        """Boil one down, and write it if that was asked for."""
        cut = warmup_cut(backlog_s(result.work.arrival_s, result.outcome.alone_s, self.capacity_rps))
        key = self.keys.get(where(result.cell))
        return Boiled(self.summary(result, cut), cut, b"" if key is None else _written(key, result))

    def summary(self, result: Result, cut: int) -> CellSummary:
        """Boil one down of which it is known how much is warm-up."""
        cell, work = result.cell, result.work
        boil_down = summarize if len(work) <= LARGE else summarize_in_parts
        return boil_down(
            work.arrival_s,
            work.output_tokens,
            result.outcome,
            policy=cell.name,
            load=cell.load,
            seed=cell.seed,
            oracle=cell.policy.is_oracle,
            bounds=cell.policy.bounds,
            warmup=cut,
            slo=self.slo,
            prompt_tokens=work.prompt_tokens,
        )


def where(cell: Cell) -> Where:
    """Return what tells a cell from the others of its run."""
    return cell.name, cell.load, cell.seed


def _written(key: CellKey, result: Result) -> bytes:
    with tempfile.TemporaryDirectory(prefix="lapsbench-cell-") as folder:
        path = Path(folder) / "cell.parquet"
        write_cell(path, key, result.work, result.outcome)
        return path.read_bytes()
