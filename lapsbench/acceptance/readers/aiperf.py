"""AIPerf's records (`profile_export.jsonl`) with `spec_decode_acceptance`: a histogram of accepted drafts a request.

`acceptance_histogram` is an object, drafts accepted to rounds; `num_spec_tokens` is the engine's k. The answer's
tokens are the benchmark's own count (`metrics.output_sequence_length`). The order of the rounds is not told: it is
drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lapsbench.acceptance.bank import ABSURD
from lapsbench.acceptance.readers.answers import Answer, read_answers
from lapsbench.acceptance.readers.reader import Reader, Reading
from lapsbench.acceptance.readers.unordered import of_histogram

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.json_records import Record
    from lapsbench.acceptance.readers.reader import Wanted
    from lapsbench.core import Longs

_ACCEPTANCE, _HISTOGRAM = "spec_decode_acceptance", "acceptance_histogram"
_LENGTHS = ("input_sequence_length", "output_sequence_length")


def _read(records: list[Record], path: Path, wanted: Wanted) -> Reading:
    answers = [_answer(record) for record in records]
    drawn = sum(not answer.left_out for answer in answers)
    return read_answers(_NAME, answers, wanted, path, [f"{drawn} responses tell no order of rounds: drawn"])


def _answer(record: Record) -> Answer:
    about, found = record.part("metadata"), record.part(_ACCEPTANCE)
    name = next((str(about[key]) for key in ("x_request_id", "session_num") if about.get(key) is not None), "")
    name = name or f"row {record.row}"
    if record.unanswered or not found:
        return Answer(name, record.where, left_out=record.unanswered or "without speculation metrics")
    prompt, tokens = (record.optional(record.part("metrics", key).get("value"), key) for key in _LENGTHS)
    return Answer(
        name,
        record.where,
        record.text("category"),
        prompt or None,
        of_histogram(record, _histogram(record, found.get(_HISTOGRAM)), name),
        None,
        tokens,
        record.optional(found.get("num_spec_tokens"), "num_spec_tokens") or None,
        record.totals(found.get("num_accepted_draft_tokens"), found.get("num_spec_steps")),
        ordered=False,
    )


def _histogram(record: Record, value: Any) -> Longs:
    if not isinstance(value, dict):
        return record.counts(value, _HISTOGRAM)
    bins = [int(key) if key.isdecimal() and len(key) < 6 else -1 for key in value]
    if min(bins, default=0) < 0 or max(bins, default=0) > ABSURD:
        raise record.fail(f"{_HISTOGRAM} has a bin that is no number of drafts")
    histogram = np.zeros(max(bins, default=0) + 1, dtype=np.int64)
    np.add.at(histogram, bins, record.counts(list(value.values()), _HISTOGRAM))
    return histogram


_NAME = "AIPerf"
READER: Final = Reader(_NAME, _ACCEPTANCE, lambda record: bool(record.part(_ACCEPTANCE)), _read)
