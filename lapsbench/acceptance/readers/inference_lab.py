"""Round banks of inference-lab, CSV: `commits,category,a0,a1,...`; commits are the accepted drafts of one round.

The columns a0 .. a{D-1} are its policies' signal and are not read; their number is the most that was drafted. The file
names no requests: the rounds of a category, as they come, are cut into recordings of `ROUNDS` each.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from lapsbench import files
from lapsbench.acceptance.bank import Recording, from_rounds
from lapsbench.acceptance.readers.reader import Reading, TextReader
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.readers.reader import Wanted

_HEADER = b"commits,category,a0"
ROUNDS = 64


def _read(text: bytes, path: Path, wanted: Wanted) -> Reading:
    try:
        frame = pl.read_csv(io.BytesIO(text.lstrip()), infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        what = f"does not read as CSV ({files.first_line(error)})"
        raise LapsbenchError(what, where=str(path), hint="commits,category,a0,a1,...") from error
    if frame.columns[:2] != ["commits", "category"]:
        raise LapsbenchError("the header does not read as CSV", where=str(path), hint="commits,category,a0,a1,...")
    commits = frame["commits"].cast(pl.Float64, strict=False)
    bad = ~((commits >= 0) & (commits < 2**16) & (commits == commits.floor())).fill_null(value=False)
    if bad.any():
        row = int(np.argmax(bad.to_numpy()))
        what = f"{frame['commits'][row]!r} is not a count of accepted drafts"
        raise LapsbenchError(what, where=f"{path}, row {row + 1}, column 'commits'", hint="whole numbers from 0 up")
    category = frame["category"].fill_null("").to_numpy()
    drafts = sum(name.startswith("a") and name[1:].isdigit() for name in frame.columns)
    recordings = _cut(commits.to_numpy().astype(np.int64), category)
    bank, notes = from_rounds(recordings, wanted.draft_tokens_max or drafts, wanted.prompt_tokens, str(path))
    read = 1 + float(commits.mean()) if len(commits) else None  # type: ignore[arg-type]
    cut = f"{len(commits)} rounds of no named request: cut into {len(recordings)} recordings of {ROUNDS} rounds or less"
    return Reading(_NAME, bank, read, None, (cut, *notes), answers=len(recordings))


def _cut(
    commits: np.ndarray[tuple[int], np.dtype[np.int64]], category: np.ndarray[tuple[int], np.dtype[np.object_]]
) -> list[Recording]:
    recordings = []
    for name in dict.fromkeys(category):
        own = commits[category == name]
        for start in range(0, len(own), ROUNDS):
            label = f"{name or 'rounds'}-{start // ROUNDS}"
            recordings.append(Recording(label, str(name), None, own[start : start + ROUNDS]))
    return recordings


_NAME = "inference-lab rounds"
READER: Final = TextReader(
    _NAME, "commits,category,a0,... (CSV)", lambda text: text.lstrip().startswith(_HEADER), _read
)
