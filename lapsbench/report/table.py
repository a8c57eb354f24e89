"""Print a replay: title, one table per load, the verdict, what the numbers rest on, warnings and advice.

Knows nothing of simulation: it reads a `ReplayResult`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from rich.text import Text

from lapsbench.metrics.pool import loads
from lapsbench.report import drafting, notes, units
from lapsbench.report.screen import PIPE_WIDTH, WIDEST
from lapsbench.report.table_columns import Column, Glyphs, columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from lapsbench.metrics.result import ReplayResult

MARGIN = 13


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns are shown, how wide, and how far apart."""

    widths: Sequence[int]
    kept: Sequence[int]
    gap: int

    @property
    def width(self) -> int:
        """Characters a line takes."""
        return sum(self.widths[place] for place in self.kept) + self.gap * (len(self.kept) - 1)


def render(result: ReplayResult, console: Console, advice: Console | None = None) -> None:
    """Print the result; advice goes to its own console (stderr) where one is given."""
    width = min(console.width, WIDEST) if console.is_terminal else PIPE_WIDTH
    glyphs = Glyphs.fitting(terminal=console.is_terminal, unicode=not console.options.ascii_only)
    tables = {load: columns(result, load, glyphs) for load in loads(result.cells)}
    layout = _fit(list(tables.values()), width)
    several = len(tables) > 1
    _print(console, _paragraph(notes.title(result), width, "bold"))
    _print(console, _paragraph(notes.engine(result), width))
    for load, table in tables.items():
        if several:
            _print(console, [Text(), Text(notes.offered(result, load), "bold")])
        for line in notes.conservation(result, load):
            _print(console, _paragraph(line, width))
        _print(console, [Text(), *_table(table, layout, glyphs)])
        if became := drafting.columns(result, load):
            narrow = Layout([each.width for each in became], range(len(became)), 2)
            _print(console, [Text(), *_paragraph(drafting.title(result), width), *_table(became, narrow, glyphs)])
    _print(console, [*_left_out(table, layout)])
    for verdict in sorted(result.verdicts, key=lambda verdict: verdict.about != "choice"):
        where = f"At load {verdict.load:g}: " if several else ""
        _print(console, [Text(), *_led(where + verdict.text, len(where + verdict.lead) if verdict.lead else 0, width)])
    _print(console, [Text()])
    for label, text in notes.facts(result):
        _print(console, _labelled(label, text, width, "dim"))
    for text in notes.warnings(result):
        _print(console, _labelled("warning", text, width, "bold yellow"))
    for text in islice(notes.advice(result), notes.ADVICE):
        _print(advice or console, _labelled("try", text, width, "bold"))


def _table(wanted: Sequence[Column], layout: Layout, glyphs: Glyphs) -> Iterator[Text]:
    kept = [(wanted[place], layout.widths[place]) for place in layout.kept]
    for line in (0, 1):
        yield _row([Text(_pad(each, each.head[line], width)) for each, width in kept], layout.gap)
    yield Text(glyphs.rule * layout.width, "dim")
    for row in range(len(wanted[0].texts)):
        cells = [Text(_pad(each, each.texts[row], width), _style(each, row)) for each, width in kept]
        yield _row(cells, layout.gap)


def _left_out(wanted: Sequence[Column], layout: Layout) -> Iterator[Text]:
    names = [each.name or " ".join(each.head) for place, each in enumerate(wanted) if place not in layout.kept]
    if names:
        yield Text(f"(no room for: {', '.join(names)})", "dim")


def _fit(tables: Sequence[Sequence[Column]], room: int) -> Layout:
    """Lay out all loads alike: close the gaps first, then drop what can best be spared."""
    widths = [max(each.width for each in same) for same in zip(*tables, strict=True)]
    kept = list(range(len(widths)))
    while True:
        for gap in (2, 1):
            layout = Layout(widths, kept, gap)
            if layout.width <= room:
                return layout
        least = min(kept, key=lambda place: tables[0][place].keep)
        if tables[0][least].keep == 9:
            return layout
        kept = [place for place in kept if place != least]


def _pad(column: Column, text: str, width: int) -> str:
    return text.ljust(width) if column.left else text.rjust(width)


def _row(cells: Sequence[Text], gap: int) -> Text:
    line = Text(" " * gap).join(cells)
    line.rstrip()
    return line


def _style(column: Column, row: int) -> str:
    if row in column.best:
        return "bold"
    return "dim" if column.faint else ""


def _paragraph(text: str, width: int, style: str = "", indent: int = 0) -> list[Text]:
    lines = textwrap.wrap(units.unparted(text), width, subsequent_indent=" " * indent, break_on_hyphens=False)
    return [Text(line.replace(units.NO_BREAK, " "), style) for line in lines]


def _led(text: str, lead: int, width: int) -> list[Text]:
    """Wrap a sentence whose first characters are bold."""
    lines = _paragraph(text, width)
    for line in lines:
        line.stylize("bold", 0, max(lead, 0))
        lead -= len(line) + 1
    return lines


def _labelled(label: str, text: str, width: int, style: str) -> list[Text]:
    lines = _paragraph(f"{label:<{MARGIN}}{text}", width, indent=MARGIN)
    lines[0].stylize(style, 0, MARGIN)
    return lines


def _print(console: Console, lines: Sequence[Text]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
