"""inference-lab's recordings, Parquet: a row per round with `accept`, the accepted drafts, bonus excluded.

A recording per (`category`, `prompt_idx`, `turn`), its rounds by `round_idx`. The columns acc0 .. acc{k-1} say of each
draft whether it was accepted; their number is the k. A file may hold several speculators: `--draft` names one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapsbench import files
from lapsbench.acceptance.bank import Recording, from_rounds
from lapsbench.acceptance.readers.reader import Reading, TextReader
from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.readers.reader import Wanted

_NEEDED = ("prompt_idx", "round_idx", "accept")
_SETTINGS = ("model", "speculator", "config")
_OF = ("category", "prompt_idx", "turn")


def _read(text: bytes, path: Path, wanted: Wanted) -> Reading:
    table = _table(text, path)
    drafts = _distinct(table, "speculator")
    draft = wanted.draft or (drafts[0] if drafts else "")
    if draft not in drafts and wanted.draft:
        raise UsageError(f"the file has no draft {draft!r}", where="--draft", hint=" or ".join(drafts) or "none")
    keep = np.array(
        [str(each) == draft for each in table["speculator"]] if drafts else np.ones(len(table["accept"]), bool)
    )
    rows = np.flatnonzero(keep)
    recordings = _recordings(table, rows)
    k = sum(name.startswith("acc") and name[3:].isdigit() for name in table) or None
    bank, notes = from_rounds(recordings, wanted.draft_tokens_max or k, wanted.prompt_tokens, str(path))
    others = [each for each in drafts if each != draft]
    told = (
        [f"draft {draft}" + (f"; the file also has {', '.join(others)}: --draft" if others else "")] if drafts else []
    )
    models = {"target": _one(table, "model"), "draft": draft}
    return Reading(
        _NAME,
        bank,
        read=1 + float(table["accept"][rows].mean()),
        notes=(f"{len(rows)} rounds of {len(recordings)} answers", *told, *notes),
        provenance={"models": {key: value for key, value in models.items() if value}},
        answers=len(recordings),
    )


def _recordings(table: dict[str, Any], rows: Any) -> list[Recording]:
    """Return a recording per answer, in the order they appear."""
    answers: dict[tuple[str, ...], list[int]] = {}
    keys = [name for name in (*_SETTINGS, *_OF) if name in table]
    for row in rows:
        answers.setdefault(tuple(str(table[name][row]) for name in keys), []).append(int(row))
    recordings = []
    for key, own in answers.items():
        told = dict(zip(keys, key, strict=True))
        ordered = sorted(own, key=lambda row: int(table["round_idx"][row]))
        name = ".".join(filter(None, (told.get("category", ""), told["prompt_idx"], told.get("turn", ""))))
        recordings.append(Recording(name, told.get("category", ""), None, table["accept"][ordered]))
    return recordings


def _table(text: bytes, path: Path) -> dict[str, Any]:
    try:
        with pq.ParquetFile(pa.BufferReader(text), page_checksum_verification=True) as file:
            table = file.read()
        table.validate(full=True)
        found = {name: table[name].to_pylist() for name in dict.fromkeys(table.schema.names)}
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, OverflowError) as error:
        what = f"not a readable Parquet file ({files.first_line(error)})"
        raise LapsbenchError(what, where=str(path), hint="writing or copying it again") from error
    if missing := [name for name in _NEEDED if name not in found]:
        what = f"column {missing[0]!r} is missing; found {', '.join(found)[:120] or 'none'}"
        raise LapsbenchError(what, where=str(path), hint="a Parquet file of rounds; a profile goes to --profile")
    if not found["accept"]:
        raise LapsbenchError("holds no rounds", where=str(path), hint="a file with at least one round")
    return {**found, **{name: _counts(found[name], name, path) for name in ("round_idx", "accept")}}


def _counts(values: list[Any], name: str, path: Path) -> Any:
    for row, value in enumerate(values, 1):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**31 or value % 1:
            what = f"{str(value)[:40]!r} is not a whole number from 0 up"
            raise LapsbenchError(what, where=f"{path}: column {name}, row {row}", hint="whole numbers")
    return np.array(values, dtype=np.int64)


def _distinct(table: dict[str, Any], name: str) -> list[str]:
    return list(dict.fromkeys(map(str, table.get(name, []))))


def _one(table: dict[str, Any], name: str) -> str:
    found = _distinct(table, name)
    return found[0] if len(found) == 1 else ""


_NAME = "inference-lab recordings"
READER: Final = TextReader(
    _NAME, "columns prompt_idx, round_idx, accept (Parquet)", lambda text: text.startswith(b"PAR1"), _read
)
