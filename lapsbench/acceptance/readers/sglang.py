"""SGLang's responses, one a record: `spec_verify_ct` and a histogram of accepted drafts.

They lie in `meta_info` (/generate), in `choices[0].meta_info`, or in `sglext.spec_tokens_details` (chat and completion
routes). `spec_correct_drafts_histogram[j]` (`spec_accept_histogram` before) is the number of rounds that accepted j
drafts, bonus excluded. `spec_accept_length` is completion tokens over rounds, prefill's token among them, and is not
read. The order of the rounds is not told: it is drawn. Without a histogram the accepted drafts are spread evenly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lapsbench.acceptance.readers.answers import Answer, read_answers
from lapsbench.acceptance.readers.reader import Reader, Reading
from lapsbench.acceptance.readers.unordered import of_histogram, of_totals

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.json_records import Record
    from lapsbench.acceptance.readers.reader import Wanted
    from lapsbench.core import Longs

_ROUNDS = "spec_verify_ct"
_PROPOSED = "spec_num_proposed_drafts"
_HISTOGRAMS = ("spec_correct_drafts_histogram", "spec_accept_histogram")
_ACCEPTED = ("spec_num_correct_drafts", "spec_accept_token_num", "spec_accepted_drafts")
_PLACES = (("meta_info",), ("choices", "meta_info"), ("sglext", "spec_tokens_details"))


def _meta(record: Record) -> dict[str, Any]:
    return next((found for place in _PLACES if _ROUNDS in (found := record.part(*place))), {})


def _read(records: list[Record], path: Path, wanted: Wanted) -> Reading:
    limit = _limit(records)
    answers = [_answer(record, limit) for record in records]
    of_use = [record for record, answer in zip(records, answers, strict=True) if not answer.left_out]
    even = sum(_histogram(record) is None for record in of_use)
    notes = []
    if even < len(of_use):
        notes.append(f"the order of the rounds of {len(of_use) - even} responses is not told: drawn")
    if even:
        notes.append(f"{even} responses tell only their mean: spread evenly over their rounds")
    return read_answers(_NAME, answers, wanted, path, notes)


def _answer(record: Record, limit: int | None) -> Answer:
    meta, usage = _meta(record), record.part("usage")
    name = str(meta.get("id") or "") or record.text("id") or f"row {record.row}"
    rounds = record.optional(meta.get(_ROUNDS), _ROUNDS)
    if not rounds:
        return Answer(name, record.where, left_out=record.unanswered or "without rounds of speculation")
    prompt, tokens = (
        record.optional(meta.get(key, usage.get(key)), key) for key in ("prompt_tokens", "completion_tokens")
    )
    accepted = next((record.count(meta[key], key) for key in _ACCEPTED if meta.get(key) is not None), None)
    histogram = _histogram(record)
    if histogram is None and accepted is None:
        # prefill gives a token, and each round its bonus
        accepted = max(record.count(tokens, "completion_tokens") - 1 - rounds, 0)
    return Answer(
        name,
        record.where,
        record.text("category"),
        prompt or None,
        of_totals(record, accepted or 0, rounds) if histogram is None else of_histogram(record, histogram, name),
        None,
        tokens,
        limit,
        None if accepted is None else (accepted, rounds),
        ordered=False,
    )


def _histogram(record: Record) -> Longs | None:
    meta = _meta(record)
    key = next((key for key in _HISTOGRAMS if meta.get(key)), None)
    return record.counts(meta[key], key) if key else None


def _limit(records: list[Record]) -> int | None:
    """Return the engine's k, one for all: the last bin of the longest histogram, or more where more was proposed."""
    known = [record for record in records if _meta(record).get(_ROUNDS)]
    limits = []
    for record in known:
        meta, histogram = _meta(record), _histogram(record)
        if histogram is None:
            return None
        proposed = record.optional(meta.get(_PROPOSED), _PROPOSED) or 0
        rounds = max(record.count(meta[_ROUNDS], _ROUNDS), 1)
        limits.append(max(len(histogram) - 1, -(-proposed // rounds)))
    return max(limits, default=None)


_NAME = "SGLang"
READER: Final = Reader(
    _NAME, "meta_info.spec_verify_ct or sglext.spec_tokens_details", lambda record: _ROUNDS in _meta(record), _read
)
