"""SpecDecode-Bench recordings: at every position of an answer, the tokens a round starting there would emit.

`acc_eagle.acc_len[g]` is what a round that starts when g tokens are out emits, bonus included (1 at g = 0, before
prefill's token); `acc_ngram` beside it is another draft's. The list is often shorter than the answer: its own length
counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lapsbench.acceptance.bank import Recording, from_positions
from lapsbench.acceptance.readers.reader import Reader, Reading
from lapsbench.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.json_records import Record
    from lapsbench.acceptance.readers.reader import Wanted

_PREFIX = "acc_"


def _drafts(record: Record) -> list[str]:
    return [
        name.removeprefix(_PREFIX)
        for name, value in record.values.items()
        if name.startswith(_PREFIX) and isinstance(value, dict) and "acc_len" in value
    ]


def _read(records: list[Record], path: Path, wanted: Wanted) -> Reading:
    drafts = _drafts(records[0])
    draft = wanted.draft or drafts[0]
    if draft not in drafts:
        raise UsageError(f"the file has no draft {draft!r}", where="--draft", hint=" or ".join(drafts))
    recordings = [_recording(record, draft) for record in records]
    bank, notes = from_positions(recordings, wanted.draft_tokens_max, wanted.prompt_tokens, str(path))
    others = [each for each in drafts if each != draft]
    notes = (f"draft {draft}" + (f"; the file also has {', '.join(others)}: --draft" if others else ""), *notes)
    return Reading(_NAME, bank, notes=notes, provenance={"models": {"draft": draft}}, answers=len(records))


def _recording(record: Record, draft: str) -> Recording:
    values = record.values.get(f"{_PREFIX}{draft}")
    lengths = record.counts(
        values.get("acc_len") if isinstance(values, dict) else None, f"acc_{draft}.acc_len", least=1
    )
    prompt = record.values.get("prompt_token_ids")
    prompt_tokens = len(prompt) if isinstance(prompt, list) and prompt else None
    return Recording(record.text("id"), record.text("category"), prompt_tokens, lengths - 1)


_NAME = "SpecDecode-Bench"
READER: Final = Reader(_NAME, "acc_eagle.acc_len", lambda record: bool(_drafts(record)), _read)
