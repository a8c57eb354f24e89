"""Spec-Bench outputs (hemingkx/Spec-Bench), and REST's in the same layout: a record per question, a recording per turn.

`choices[0].accept_lengths` holds the tokens of every round, bonus included, of all turns end to end; `decoding_steps`
says how many rounds each turn has. REST's key is `accept_lengths:`, and its `idxs` are one less than the rounds. A turn
whose entries sum to one token less than its `new_tokens` (all of REST's do) leaves one out of its first entry: REST
counts from behind the token that prefill gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lapsbench.acceptance.bank import Recording, from_rounds
from lapsbench.acceptance.readers.reader import Reader, Reading

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.json_records import Record
    from lapsbench.acceptance.readers.reader import Wanted
    from lapsbench.core import Longs

_KEYS = ("accept_lengths", "accept_lengths:")


def _choice(record: Record) -> dict[str, Any]:
    choices = record.values.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _read(records: list[Record], path: Path, wanted: Wanted) -> Reading:
    turns = [turn for record in records for turn in _turns(record)]
    entries, steps = sum(int(raw.sum()) for _, raw, _ in turns), sum(len(raw) for _, raw, _ in turns)
    new_tokens = sum(tokens for *_, tokens in turns)
    recordings = [recording for recording, *_ in turns]
    bank, notes = from_rounds(recordings, wanted.draft_tokens_max, wanted.prompt_tokens, str(path))
    mended = sum(int(recording.accepted.sum()) + len(raw) > int(raw.sum()) for recording, raw, _ in turns)
    if mended:
        notes = (*notes, f"the first round of {mended} turns: given the token that new_tokens has more")
    return Reading(
        _NAME,
        bank,
        read=entries / steps,
        stated=new_tokens / steps,
        notes=(f"{len(records)} questions, {len(turns)} turns", *notes),
        provenance={"models": {"pair": records[0].text("model_id")}},
        answers=len(turns),
    )


def _turns(record: Record) -> list[tuple[Recording, Longs, int]]:
    """Return each turn's recording, its entries as they lie, and its new tokens."""
    choice = _choice(record)
    key = next((key for key in _KEYS if key in choice), _KEYS[0])
    entries = record.counts(choice.get(key), key)
    new_tokens = record.counts(choice.get("new_tokens"), "new_tokens")
    if "decoding_steps" in choice:
        steps = record.counts(choice["decoding_steps"], "decoding_steps")
    else:
        steps = record.counts(choice.get("idxs"), "idxs") + 1
    if steps.sum() != len(entries) or len(steps) != len(new_tokens):
        raise record.fail(f"{len(entries)} rounds in {key}, {steps.sum()} by its steps, {len(new_tokens)} turns")
    cuts = np.cumsum(steps)[:-1]
    return [
        (_recording(record, number, part, int(tokens)), part, int(tokens))
        for number, (part, tokens) in enumerate(zip(np.split(entries, cuts), new_tokens, strict=True), 1)
    ]


def _recording(record: Record, turn: int, entries: Longs, new_tokens: int) -> Recording:
    accepted = entries - 1
    if len(accepted) and new_tokens == entries.sum() + 1:
        accepted[0] += 1
    if np.any(accepted < 0):
        raise record.fail(f"turn {turn} has a round of no tokens")
    return Recording(f"{record.text('question_id')}.{turn}", record.text("category"), None, accepted)


_NAME = "Spec-Bench"
READER: Final = Reader(
    _NAME, "choices[0].accept_lengths", lambda record: any(key in _choice(record) for key in _KEYS), _read
)
