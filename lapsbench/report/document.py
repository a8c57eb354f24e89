"""A run as a page or a Markdown text shows it: the terminal's own title, tables, facts, warnings and sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lapsbench.metrics.catalog import METRICS
from lapsbench.metrics.pool import loads, policies, pooled, select
from lapsbench.report import drafting, notes
from lapsbench.report.plots.curves import focus_of
from lapsbench.report.provenance import provenance
from lapsbench.report.table_columns import Column, Glyphs, columns
from lapsbench.report.units import prose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.metrics.verdicts import Verdict
    from lapsbench.reading import Run


@dataclass(frozen=True, slots=True)
class Table:
    """The table of one load: what was offered, what became of the requests, the columns, the sentences.

    Attributes:
        drafts: what became of the drafts, where they vary, under a title of its own.
        choices: which scheduler to run, as what to read first and the rest; worth: what knowing was worth.
    """

    title: str
    load: float | None
    conservation: Sequence[str]
    columns: Sequence[Column]
    drafts_title: str
    drafts: Sequence[Column]
    choices: Sequence[tuple[str, str]]
    worth: Sequence[str]


@dataclass(frozen=True, slots=True)
class Number:
    """One row of summary.parquet, pooled over seeds."""

    policy: str
    load: str
    metric: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class View:
    """A run in words. `tables` begin with the one whose load the details are about.

    Attributes:
        numbers: every metric of every policy and load.
    """

    name: str
    trace: str
    profile: str
    title: str
    engine: str
    tables: Sequence[Table]
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    provenance: Sequence[tuple[str, str]]
    numbers: Sequence[Number]


def view(run: Run) -> View:
    """Put a run into words."""
    result = run.result
    focus = focus_of(run)
    ordered = sorted(loads(result.cells), key=lambda load: load != focus)
    return View(
        name=run.name,
        trace=result.trace,
        profile=result.profile,
        title=notes.title(result),
        engine=notes.engine(result),
        tables=[_table(run, load) for load in ordered],
        facts=list(notes.facts(result)),
        warnings=list(notes.warnings(result)),
        provenance=provenance(run),
        numbers=list(_numbers(run)),
    )


def _table(run: Run, load: float | None) -> Table:
    result = run.result
    return Table(
        title=notes.offered(result, load),
        load=load,
        conservation=list(notes.conservation(result, load)),
        columns=columns(result, load, Glyphs()),
        drafts_title=drafting.title(result),
        drafts=drafting.columns(result, load),
        choices=[(prose(each.lead), prose(each.text.removeprefix(each.lead))) for each in _said(run, load, "choice")],
        worth=[prose(each.text) for each in _said(run, load, "worth")],
    )


def _said(run: Run, load: float | None, about: str) -> list[Verdict]:
    return [each for each in run.result.verdicts if each.load == load and each.about == about]


def _numbers(run: Run) -> Iterator[Number]:
    cells = run.result.cells
    for load in loads(cells):
        for policy in policies(cells):
            seeds = select(cells, policy, load)
            for metric in METRICS if seeds else ():
                found = pooled(seeds, metric.name)
                at = "" if load is None else f"{load:g}"
                yield Number(seeds[0].label, at, metric.name, found.value, found.low, found.high)
