"""A record per round: `uid`, `round_idx`, `accepted_draft`, as DFlash's `*.rounds.jsonl`.

`start_pos` of the first round is the prompt's length, `proposal_len` the drafts of a round. A file called
`*.samples.jsonl` beside it has a record per answer, with its totals and its `dataset`, which is the category.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lapsbench import files
from lapsbench.acceptance.bank import Recording, from_rounds
from lapsbench.acceptance.json_records import read_records
from lapsbench.acceptance.readers.reader import Reader, Reading

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.json_records import Record
    from lapsbench.acceptance.readers.reader import Wanted

_ACCEPTED = "accepted_draft"
_ROUNDS, _SAMPLES = ".rounds.", ".samples."


def _read(records: list[Record], path: Path, wanted: Wanted) -> Reading:
    answers: dict[str, list[Record]] = {}
    for record in records:
        answers.setdefault(record.text("uid"), []).append(record)
    samples = _samples(path)
    limit = wanted.draft_tokens_max
    if limit is None and all("proposal_len" in record.values for record in records):
        limit = max(record.count(record.values["proposal_len"], "proposal_len") for record in records)
    recordings = [_recording(uid, rounds, samples.get(uid)) for uid, rounds in answers.items()]
    bank, notes = from_rounds(recordings, limit, wanted.prompt_tokens, str(path))
    accepted = np.concatenate([each.accepted for each in recordings])
    return Reading(
        _NAME,
        bank,
        read=1 + float(accepted.mean()),
        stated=_stated(records),
        notes=(f"{len(records)} rounds of {len(answers)} answers", *_checked(answers, samples), *notes),
        answers=len(answers),
    )


def _recording(uid: str, rounds: list[Record], sample: Record | None) -> Recording:
    ordered = sorted(rounds, key=lambda record: record.count(record.values.get("round_idx", 0), "round_idx"))
    first = ordered[0].values.get("start_pos")
    return Recording(
        uid,
        sample.text("category", "dataset") if sample else rounds[0].text("category", "dataset"),
        ordered[0].count(first, "start_pos") or None if first is not None else None,
        np.array([record.count(record.values.get(_ACCEPTED), _ACCEPTED) for record in ordered], dtype=np.int64),
    )


def _samples(path: Path) -> dict[str, Record]:
    """Return the records of the file beside, by `uid`; none where there is no such file."""
    beside = path.with_name(path.name.replace(_ROUNDS, _SAMPLES))
    if beside == path or not beside.is_file():
        return {}
    return {record.text("uid"): record for record in read_records(beside, files.text(beside))}


def _stated(records: list[Record]) -> float | None:
    if not all("committed" in record.values for record in records):
        return None
    return sum(record.count(record.values["committed"], "committed") for record in records) / len(records)


def _checked(answers: dict[str, list[Record]], samples: dict[str, Record]) -> list[str]:
    """Say in how many answers the totals beside name another number of rounds."""
    if not samples:
        return []
    wrong = sum(
        uid not in samples or samples[uid].values.get("rounds", len(rounds)) != len(rounds)
        for uid, rounds in answers.items()
    )
    return [
        f"the totals beside name {'other' if wrong else 'the same'} rounds" + (f" in {wrong} answers" * bool(wrong))
    ]


def read_samples(records: list[Record], path: Path, wanted: Wanted) -> Reading:
    """Read the file of rounds that lies beside one of totals.

    Raises:
        LapsbenchError: there is none: totals alone do not say what a round accepts.
    """
    beside = path.with_name(path.name.replace(_SAMPLES, _ROUNDS))
    if beside == path or not beside.is_file():
        raise records[0].fail("holds totals of answers, no rounds", "the file of rounds that belongs to it")
    return _read(read_records(beside, files.text(beside)), beside, wanted)


_NAME = "rounds"
READER: Final = Reader(_NAME, _ACCEPTED, lambda record: _ACCEPTED in record.values, _read)
SAMPLES: Final = Reader(
    "totals beside rounds", "rounds, n_output_tokens", lambda record: "n_output_tokens" in record.values, read_samples
)
