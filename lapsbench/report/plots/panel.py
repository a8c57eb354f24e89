"""What a section of plots is, and the run it is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lapsbench.report.plots.kinds import Look
from lapsbench.report.plots.styles import styles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.reading import Run
    from lapsbench.report.plots.curves import Curves
    from lapsbench.report.plots.kinds import Row, Spec


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot. `key` says that a short report wants it."""

    title: str
    spec: Spec
    key: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Plots that answer one question.

    Attributes:
        look_for: one line.
        look: how names are drawn; names: those for the legend, none where the plots name them.
        note: what the plots leave out, or why there are none.
    """

    name: str
    title: str
    look_for: str
    panels: Sequence[Panel]
    look: Look
    names: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """A run, what its plots are drawn from, and how it is called beside others ("" if it is alone)."""

    run: Run
    curves: Curves
    name: str = ""

    def called(self, *words: str) -> str:
        """Return a title for a panel."""
        return ", ".join(word for word in (*words, self.name) if word)

    def label(self, policy: str) -> str:
        """The policy's name as people see it."""
        return next(cell.label for cell in self.run.result.cells if cell.policy == policy)

    def labelled(self, rows: Sequence[Row]) -> list[Row]:
        """Return rows that call their policies as people do."""
        labels = {cell.policy: cell.label for cell in self.run.result.cells}
        return [row | {"policy": labels[row["policy"]]} for row in rows]


def look_of(subjects: Sequence[Subject], *, alone: bool) -> Look:
    """Return how the policies of all runs are drawn."""
    labels = {cell.policy: cell.label for each in subjects for cell in each.run.result.cells}
    return Look({labels[name]: style for name, style in styles(labels).items()}, alone)


def at(load: float | None) -> str:
    """Name a load."""
    return "" if load is None else f"load {load:g}"
