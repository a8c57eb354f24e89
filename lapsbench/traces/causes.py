"""Names why a header or a value does not read, where its text tells: another separator, a comment, a date, a comma.

Returns what is wrong and what to try; where the file is and which row, the caller knows.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

Cause = tuple[str, str]

_SEPARATORS: Final = MappingProxyType({";": "semicolons", "\t": "tabs", "|": "bars"})
_TO_COMMAS: Final = MappingProxyType(
    {";": "sed 's/,/./g; s/;/,/g' FILE", "\t": "tr '\\t' ',' < FILE", "|": "tr '|' ',' < FILE"}
)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:[,'_\u00a0\u202f ]\d{3})+(?:\.\d+)?")
_COMMA = re.compile(r"[+-]?\d+,\d+")
_YEAR_FIRST = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ]+(\S+))?")
_YEAR_LAST = re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{4}\b.*")


def of_header(columns: tuple[str, ...]) -> Cause | None:
    """Say why the first line of a CSV file names no columns; None where it does not tell."""
    first = columns[0] if columns else ""
    if first.startswith("#"):
        return f"begins with a comment ({first[:40]!r}), not with column names", "grep -v '^#' FILE"
    found = [mark for mark in _SEPARATORS if mark in first]
    if len(columns) == 1 and found:
        return f"its values stand between {_SEPARATORS[found[0]]}, not between commas", _TO_COMMAS[found[0]]
    return None


def of_number(value: object) -> Cause:
    """Say why a value is not a number."""
    text = value.strip() if isinstance(value, str) else ""
    if text.startswith("#"):
        return "is a comment, not a row", "grep -v '^#' FILE"
    if _THOUSANDS.fullmatch(text):
        plain = re.sub(r"[^\d.+-]", "", text)
        return "is not a number: it has marks between the thousands", f"{plain}, without them"
    if _COMMA.fullmatch(text):
        return "is not a number: it has a comma for a decimal point", text.replace(",", ".")
    return _of_date(text) or ("is not a number", "filling in or deleting the row")


def _of_date(text: str) -> Cause | None:
    if found := _YEAR_FIRST.fullmatch(text):
        year, month, day, clock = found.groups()
        moment = f"{year}-{int(month):02d}-{int(day):02d} {clock or '00:00:00'}"
        if moment == text.replace("T", " "):
            return "is a time, not a number", "--columns, which reads times as arrivals"
        return "is a date in a form that is not read", moment
    if _YEAR_LAST.fullmatch(text):
        return "is a date that does not say which is the day and which the month", "2026-11-27 10:00:00, the year first"
    return None
