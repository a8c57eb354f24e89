"""A run as Markdown for GitHub: the terminal's table, facts and sentences, and the key plots as SVG beside the file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import vl_convert

from lapsbench.report.document import view
from lapsbench.report.github import plain, table
from lapsbench.report.plots import sections
from lapsbench.report.side_by_side import side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lapsbench.reading import Run
    from lapsbench.report.document import View
    from lapsbench.report.plots import Subject
    from lapsbench.report.table_columns import Column


def pictures(subjects: Sequence[Subject], stem: str) -> dict[str, tuple[str, str]]:
    """Return the key plots: file name -> what it shows, and the SVG."""
    found = {}
    for section in sections(subjects, alone=True):
        for number, panel in enumerate((panel for panel in section.panels if panel.key), start=1):
            name = f"{stem}-{section.name}{'' if number == 1 else f'-{number}'}.svg"
            svg = vl_convert.vegalite_to_svg(json.dumps(panel.spec))
            found[name] = (f"{section.title}: {panel.title}. Look for: {section.look_for}", svg)
    return found


def markdown(runs: Sequence[Run], shown: Mapping[str, tuple[str, str]] | None = None) -> str:
    """Return the text; `shown` are the pictures that will lie beside it."""
    blocks = []
    if len(runs) > 1:
        beside = side_by_side(runs)
        rows = [[plain(text) for text in (label, *texts)] for label, texts in beside.rows]
        heads = [plain(head) for head in ("policy", *beside.heads)]
        blocks += ["### Side by side", table(heads, rows)]
    for run in runs:
        blocks += _run(view(run), several=len(runs) > 1)
    for name, (text, _) in (shown or {}).items():
        blocks += [text, f"![{text.partition('. Look for')[0]}]({name})"]
    return "\n\n".join(blocks) + "\n"


def _run(shown: View, *, several: bool) -> Iterator[str]:
    yield f"### {plain(shown.name if several else f'Which request scheduler for {shown.trace}?')}"
    yield plain(shown.title)
    tables = sorted(shown.tables, key=lambda table: table.load or 0.0)
    several_loads = len(tables) > 1
    for each in tables:
        where = f"At load {each.load:g}: " if several_loads and each.load is not None else ""
        yield from (f"> **{where}{plain(lead.strip())}** {plain(rest)}".rstrip() for lead, rest in each.choices)
    for each in tables:
        if several_loads:
            yield f"**{each.title}**"
        yield _result(each.columns)
        yield from map(plain, each.conservation)
        if each.drafts:
            yield plain(f"{each.drafts_title}:")
            yield _result(each.drafts)
    for text in shown.warnings:
        yield f"**Warning:** {plain(text)}"
    for each in tables:
        where = f"At load {each.load:g}: " if several_loads and each.load is not None else ""
        yield from (f"> {where}{plain(text)}" for text in each.worth)
    facts = [("engine", shown.engine.removeprefix("engine: ")), *shown.facts, *shown.provenance]
    lines = "\n".join(f"- {plain(name)}: {plain(text)}" for name, text in facts)
    yield f"<details><summary>What the numbers rest on</summary>\n\n{lines}\n\n</details>"


def _result(columns: Sequence[Column]) -> str:
    rows = []
    for row in range(len(columns[0].texts)):
        texts = [(plain(column.texts[row].strip()), row in column.best) for column in columns]
        rows.append([f"**{text}**" if best else text for text, best in texts])
    return table([plain(column.title) for column in columns], rows)
