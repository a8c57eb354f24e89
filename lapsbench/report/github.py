"""GitHub's Markdown: a table, and text in which no name is markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.report.units import prose

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Return a GitHub table; the columns `left` are aligned to the left, the others to the right."""
    marks = [":--" if place in left else "--:" for place in range(len(heads))]
    lines = [heads, marks, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Keep a name's asterisk, bar or bracket from becoming markup."""
    for mark in "\\*_`<|":
        text = text.replace(mark, f"\\{mark}")
    return prose(text)
