"""TensorRT-LLM's per-request `perf_metrics`: totals of drafted and accepted tokens of an answer, and so a mean only.

A round is an iteration. They run from `first_iter`, which may be that of prefill, to `last_iter`: of the two counts the
one that makes whole drafts of `total_draft_tokens`, else without prefill's. With `--draft-tokens-max K` the rounds are
the drafts over K.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from lapsbench.acceptance.readers.reader import Reader, only_a_mean

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.json_records import Record
    from lapsbench.acceptance.readers.reader import Wanted


def _read(records: list[Record], path: Path, wanted: Wanted) -> NoReturn:
    accepted = rounds = drafted = answers = 0
    for record in records:
        metrics = record.part("perf_metrics")
        found = _speculation(record)
        drafts = record.count(found.get("total_draft_tokens", 0), "total_draft_tokens")
        if not drafts:
            continue
        own = record.count(found.get("total_accepted_draft_tokens"), "total_accepted_draft_tokens")
        if own > drafts:
            raise record.fail(f"accepts {own} of {drafts} drafts")
        first, last = (record.count(metrics.get(key), key) for key in ("first_iter", "last_iter"))
        k = wanted.draft_tokens_max
        accepted, drafted, answers = accepted + own, drafted + drafts, answers + 1
        rounds += -(-drafts // k) if k else _rounds(record, drafts, last - first)
    k = wanted.draft_tokens_max or (drafted // rounds if rounds and drafted % rounds == 0 else None)
    raise only_a_mean(path, _NAME, accepted + rounds, rounds, k, f"{answers} of {len(records)} answers")


def _rounds(record: Record, drafts: int, span: int) -> int:
    if span < 0:
        raise record.fail("last_iter is before first_iter")
    counts = [count for count in (span, span + 1) if count]
    return next((count for count in counts if drafts % count == 0), counts[0])


def _speculation(record: Record) -> dict[str, Any]:
    return record.part("perf_metrics", "speculative_decoding")


_NAME = "TensorRT-LLM"
READER: Final = Reader(
    _NAME,
    "perf_metrics.speculative_decoding",
    lambda record: "total_draft_tokens" in _speculation(record),
    _read,
)
