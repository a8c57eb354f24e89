"""How many tokens to draft by size of batch, and by mean context: schedules as people, and as vLLM, write them.

`1-8:7,9-32:5,33-:3`: ranges of batch sizes, both ends included, from 1 on; a gap inherits the range before it.
`1-64@0-8191:3,1-64@8192-:5`: a range with bands of mean context, from 0 on, a gap as above.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import DRAFTS_MOST, UNLIMITED
from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lapsbench.core import Engine, Ints, Longs

FLAG = "--draft-tokens"
EXAMPLE = "1-8:7,9-32:5,33-:3, or with mean context 1-64@0-8191:3,1-64@8192-:5"
BY_BATCH, RECORDED = "by-batch", "recorded"
"""The controller that does as the schedule says."""
VLLM = "vllm:"
VLLMS_KEY = "num_speculative_tokens_per_batch_size"
VLLMS_MOST = "num_speculative_tokens"
_ENTRY = re.compile(r"(\d+)(?:-(\d*))?(?:@(\d+)(?:-(\d*))?)?:(\d+)")


@dataclass(frozen=True, slots=True)
class Range:
    """So many drafts for batches from `first` to `last` whose mean context begins in `least` to `most`."""

    first: int
    last: int
    drafts: int
    least: int = 0
    most: int = UNLIMITED

    def __str__(self) -> str:
        """Return the entry that `parsed` reads."""
        whole = self.least == 0 and self.most == UNLIMITED
        band = "" if whole else f"@{_span(self.least, self.most)}"
        return f"{_span(self.first, self.last)}{band}:{self.drafts}"


def written(ranges: Iterable[Range]) -> str:
    """Return a schedule as text."""
    return ",".join(map(str, ranges))


@cache
def parsed(text: str) -> tuple[Range, ...]:
    """Read a schedule, in the order of its ranges.

    Raises:
        UsageError: it cannot be read, begins late, or names a batch and a context twice.
    """
    found = []
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if match is None:
            raise UsageError(f"{entry.strip()!r} is no range of batch sizes with a number", where=FLAG, hint=EXAMPLE)
        first, last, least, most, drafts = match.groups()
        if int(first) == 0:
            raise UsageError(f"{entry.strip()!r}: no batch is empty", where=FLAG, hint=EXAMPLE)
        if int(drafts) > DRAFTS_MOST:
            raise UsageError(f"{drafts} is too large", where=FLAG, hint=f"{DRAFTS_MOST} or less")
        batches = _ends(entry, first, last)
        contexts = _ends(entry, least, most) if least else (0, UNLIMITED)
        found.append(Range(*batches, int(drafts), *contexts))
    found.sort(key=lambda each: (each.first, each.last, each.least))
    _fit(found)
    return tuple(found)


def given_by(text: str) -> tuple[int, str]:
    """Return the most drafts of what `--draft-tokens` names, a schedule or a file of vLLM's, and the schedule.

    Raises:
        LapsbenchError, UsageError: it cannot be read, or means nothing.
    """
    if text.startswith(VLLM):
        return of_vllm(text.removeprefix(VLLM))
    ranges = parsed(text)
    return max(each.drafts for each in ranges), written(ranges)


def of_vllm(path: str) -> tuple[int, str]:
    """Read vLLM's own schedule: the largest number of drafts, and the schedule as text, cut to it.

    The file holds its list of [first, last, drafts], or a speculative config with it.

    Raises:
        LapsbenchError: the file cannot be read.
        UsageError: vLLM would not take it.
    """
    rows, most = _rows(path)
    where = f"{FLAG} {VLLM}{path}"
    if not isinstance(rows, list) or not rows:
        raise UsageError(f"holds no {VLLMS_KEY}", where=where, hint="[[1, 8, 7], [9, 32, 5], [33, 256, 3]]")
    for row in rows:
        if not (isinstance(row, list) and len(row) == 3 and all(type(each) is int for each in row)):
            raise UsageError(f"{json.dumps(row)} is not [first, last, drafts]", where=where, hint="[1, 8, 7]")
        if not (1 <= row[0] <= row[1] and 0 <= row[2] <= DRAFTS_MOST):
            raise UsageError(f"{row} is no range of batch sizes with a number of drafts", where=where, hint="[1, 8, 7]")
    highest = max(row[2] for row in rows) if most is None else most
    if type(highest) is not int or not 0 <= highest <= DRAFTS_MOST:
        raise UsageError(f"{VLLMS_MOST} is {highest!r}", where=where, hint=f"1 to {DRAFTS_MOST}")
    found = sorted((Range(first, last, min(drafts, highest)) for first, last, drafts in rows), key=lambda it: it.first)
    _fit(found, where)
    return highest, written(found)


def as_vllm(ranges: Iterable[Range], max_batch: int) -> list[list[int]]:
    """Return vLLM's list of a schedule without bands of context."""
    return [[each.first, min(each.last, max(max_batch, each.first)), each.drafts] for each in ranges]


def dense(text: str, max_batch: int) -> tuple[Longs, Ints]:
    """Return where bands of context begin, int64 [bands], and the drafts, int32 [max_batch + 1, bands]."""
    ranges = parsed(text)
    edges = sorted({each.least for each in ranges} | {0})
    table = np.zeros((max_batch + 1, len(edges)), np.int32)
    groups = [list(group) for _, group in groupby(ranges, key=lambda each: (each.first, each.last))]
    for place, group in enumerate(groups):
        last = groups[place + 1][0].first - 1 if place + 1 < len(groups) else max_batch
        for i, edge in enumerate(edges):
            table[group[0].first : last + 1, i] = [each for each in group if each.least <= edge][-1].drafts
    return np.array(edges, np.int64), table


def at(edges: Longs, table: Ints, batch: int, context: float) -> int:
    """Return the drafts for so many requests of this mean context."""
    band = max(i for i, edge in enumerate(edges) if i == 0 or edge <= context)
    return int(table[batch, band])


def nominal(engine: Engine) -> int:
    """Return the one number that rounds are counted with before they are run: a schedule's for a full batch."""
    if not engine.schedule:
        return engine.draft_tokens
    return int(dense(engine.schedule, engine.max_batch)[1][engine.max_batch, 0])


def _rows(path: str) -> tuple[Any, Any]:
    """Return the list, and the largest number beside it, if any."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise LapsbenchError(f"cannot be read ({reason})", where=path, hint=f"a file with {VLLMS_KEY}") from error
    if isinstance(found, dict) and isinstance(found.get("speculative_config"), dict):
        found = found["speculative_config"]
    return (found.get(VLLMS_KEY), found.get(VLLMS_MOST)) if isinstance(found, dict) else (found, None)


def _fit(ranges: list[Range], where: str = FLAG) -> None:
    """Refuse ranges that do not fit together."""
    if ranges[0].first != 1:
        what = f"begins with batches of {ranges[0].first}, so nothing says what smaller ones draft"
        raise UsageError(what, where=where, hint=f"1-{ranges[0].first - 1}:{ranges[0].drafts} before it")
    end, before = 0, ""
    for (first, last), group in groupby(ranges, key=lambda each: (each.first, each.last)):
        if first <= end:
            what = f"{_span(first, last)} overlaps {before}"
            raise UsageError(what, where=where, hint="ranges that do not share a batch size")
        end, before = last, _span(first, last)
        _fit_bands(list(group), where)


def _fit_bands(bands: list[Range], where: str) -> None:
    name = _span(bands[0].first, bands[0].last)
    if bands[0].least != 0:
        what = f"the contexts of {name} begin at {bands[0].least}"
        raise UsageError(what, where=where, hint=f"{name}@0-{bands[0].least - 1}:{bands[0].drafts} before it")
    for one, other in pairwise(bands):
        if other.least <= one.most:
            what = f"{name}: contexts {_span(other.least, other.most)} overlap {_span(one.least, one.most)}"
            raise UsageError(what, where=where, hint=EXAMPLE)


def _ends(entry: str, first: str, last: str | None) -> tuple[int, int]:
    """Return both ends of a span: `5` is 5 alone, `5-` has no end."""
    begin = int(first)
    end = begin if last is None else int(last) if last else UNLIMITED
    if end < begin or end > UNLIMITED:
        what = "ends before it begins" if end < begin else "is too large"
        raise UsageError(f"{entry.strip()!r} {what}", where=FLAG, hint=EXAMPLE)
    return begin, end


def _span(first: int, last: int) -> str:
    return f"{first}-" if last >= UNLIMITED else f"{first}" if first == last else f"{first}-{last}"
