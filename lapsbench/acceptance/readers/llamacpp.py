"""llama.cpp's responses: `timings` with the drafts and accepted drafts of a whole answer, and so a mean only.

`predicted_n` tokens, the first from prefill, of which `draft_n_accepted` were drafted: the others took a round each,
with drafts or without. An answer that drafted nothing has no `draft_n`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from lapsbench.acceptance.readers.reader import Reader, only_a_mean

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.json_records import Record
    from lapsbench.acceptance.readers.reader import Wanted


def _read(records: list[Record], path: Path, wanted: Wanted) -> NoReturn:
    tokens = rounds = answers = 0
    for record in records:
        timings = record.part("timings")
        predicted = record.count(timings.get("predicted_n", 0), "timings.predicted_n")
        accepted = record.count(timings.get("draft_n_accepted", 0), "timings.draft_n_accepted")
        if accepted and accepted > predicted - 1:
            raise record.fail(f"{accepted} accepted drafts in an answer of {predicted} tokens")
        answers += predicted > 0
        tokens += max(predicted - 1, 0)
        rounds += max(predicted - 1, 0) - accepted
    of = f"{answers} of {len(records)} answers, rounds without drafts among them"
    raise only_a_mean(path, _NAME, tokens, rounds, wanted.draft_tokens_max, of)


_NAME = "llama.cpp"
READER: Final = Reader(_NAME, "timings.draft_n", lambda record: "draft_n" in record.part("timings"), _read)
