"""vLLM's responses with `--per-request-spec-decode-metrics`, one a record: `metrics.speculative_decoding`.

"detailed" lists `per_step_accepted`, bonus excluded, and `per_step_drafted`; "summary" has the `acceptance_histogram`
only, and then the order of the rounds is drawn. Neither lists a step that drafted nothing: `usage.completion_tokens`
tells. `num_spec_tokens` is the engine's k. An answer whose metrics are null drafted nothing at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lapsbench.acceptance.readers.answers import Answer, read_answers
from lapsbench.acceptance.readers.reader import Reader, Reading
from lapsbench.acceptance.readers.unordered import of_histogram

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.json_records import Record
    from lapsbench.acceptance.readers.reader import Wanted

_METRICS, _STEPS, _DRAFTED, _HISTOGRAM = (
    "speculative_decoding",
    "per_step_accepted",
    "per_step_drafted",
    "acceptance_histogram",
)


def _metrics(record: Record) -> dict[str, Any]:
    return record.part("metrics", _METRICS) or record.part("spec_decode_metrics")


def _knows(record: Record) -> bool:
    return bool(_metrics(record)) or _METRICS in record.part("metrics")


def _read(records: list[Record], path: Path, wanted: Wanted) -> Reading:
    answers = [_answer(record) for record in records]
    unordered = sum(not answer.ordered for answer in answers)
    notes = [f"{unordered} responses tell no order of rounds: drawn"] if unordered else []
    return read_answers(_NAME, answers, wanted, path, notes)


def _answer(record: Record) -> Answer:
    metrics, usage = _metrics(record), record.part("usage")
    name = record.text("id") or f"row {record.row}"
    tokens = record.optional(usage.get("completion_tokens"), "usage.completion_tokens")
    if not metrics and (tokens is None or not _knows(record)):
        return Answer(name, record.where, left_out=record.unanswered or "without speculation metrics")
    accepted = metrics.get("num_accepted_draft_tokens"), metrics.get("num_spec_steps")
    ordered = _STEPS in metrics or not metrics
    return Answer(
        name,
        record.where,
        record.text("category"),
        record.optional(usage.get("prompt_tokens"), "usage.prompt_tokens") or None,
        record.counts(metrics.get(_STEPS, []), _STEPS)
        if ordered
        else of_histogram(record, record.counts(metrics.get(_HISTOGRAM, []), _HISTOGRAM), name),
        record.counts(metrics[_DRAFTED], _DRAFTED) if ordered and metrics.get(_DRAFTED) is not None else None,
        tokens,
        record.optional(metrics.get("num_spec_tokens"), "num_spec_tokens") or None,
        record.totals(*accepted),
        ordered,
    )


_NAME = "vLLM"
READER: Final = Reader(_NAME, "metrics.speculative_decoding", _knows, _read)
