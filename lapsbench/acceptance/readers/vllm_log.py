"""vLLM's log: lines of `SpecDecoding metrics`, sums over the requests of some seconds, and so a mean only.

Its mean is of rounds that drafted: steps without drafts are not in it. Lines are pooled over their rounds, which are
the accepted drafts over the mean's share of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from lapsbench.acceptance.readers.reader import AGREE, TextReader, only_a_mean
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.readers.reader import Wanted

_MARK = b"SpecDecoding metrics:"
_NUMBER = r"(\d{1,12}(?:\.\d{1,6})?)"
_MEAN, _ACCEPTED, _DRAFTED = (
    re.compile(rf"{name}: {_NUMBER}") for name in ("Mean acceptance length", "Accepted", "Drafted")
)
_RATES = re.compile(r"Per-position acceptance rate: ([\d., ]+)")


@dataclass(frozen=True, slots=True)
class _Line:
    """One line: its mean, the rounds it is of, and the mean by its rates at each position."""

    mean: float
    rounds: float
    by_rates: float
    k: int


def _read(text: bytes, path: Path, wanted: Wanted) -> NoReturn:
    found = [line for row in text.splitlines() if _MARK in row and (line := _line(row.decode(errors="replace")))]
    if not found:
        what = "has no line of SpecDecoding metrics with its mean and tokens"
        raise LapsbenchError(what, where=str(path), hint="the log as vLLM wrote it")
    rounds = sum(line.rounds for line in found)
    tokens = sum(line.mean * line.rounds for line in found)
    by_rates = sum(line.by_rates * line.rounds for line in found)
    of = f"{len(found)} log lines, of rounds that drafted"
    if rounds and abs(by_rates / tokens - 1) > 2 * AGREE:  # its numbers are rounded to two digits
        of += f"; {by_rates / rounds:.3g} by its rates at each position: DISAGREE"
    raise only_a_mean(path, _NAME, tokens, rounds, wanted.draft_tokens_max or max(line.k for line in found), of)


def _line(row: str) -> _Line | None:
    mean, accepted, drafted, rates = (each.search(row) for each in (_MEAN, _ACCEPTED, _DRAFTED, _RATES))
    if not (mean and accepted and drafted and rates):
        return None
    try:
        shares = [float(each) for each in rates[1].split(",") if each.strip()]
    except ValueError:
        return None
    if not shares:
        return None
    length = float(mean[1])
    rounds = float(accepted[1]) / (length - 1) if length > 1 else float(drafted[1]) / len(shares)
    return _Line(max(length, 1.0), rounds, 1 + sum(shares), len(shares))


_NAME = "vLLM's log"
READER: Final = TextReader(
    _NAME,
    "SpecDecoding metrics: Mean acceptance length",
    lambda text: not text.lstrip().startswith(b"{") and _MARK in text,
    _read,
)
