"""EAGLE's answers (`gen_ea_answer`): totals of each turn, `choices[0].idxs` and `new_tokens`, and so a mean only.

`idxs` are one less than the rounds of a turn; its tokens are those of its rounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from lapsbench.acceptance.readers.reader import Reader, only_a_mean

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.json_records import Record
    from lapsbench.acceptance.readers.reader import Wanted


def _read(records: list[Record], path: Path, wanted: Wanted) -> NoReturn:
    tokens = rounds = turns = 0
    for record in records:
        choice = record.part("choices")
        steps = record.counts(choice.get("idxs"), "idxs") + 1
        new_tokens = record.counts(choice.get("new_tokens"), "new_tokens")
        if len(steps) != len(new_tokens):
            raise record.fail(f"{len(steps)} turns by idxs, {len(new_tokens)} by new_tokens")
        tokens, rounds, turns = tokens + int(new_tokens.sum()), rounds + int(steps.sum()), turns + len(steps)
    raise only_a_mean(path, _NAME, tokens, rounds, wanted.draft_tokens_max, f"{turns} turns")


_NAME = "EAGLE's answers"
READER: Final = Reader(_NAME, "choices[0].idxs", lambda record: "idxs" in record.part("choices"), _read)
