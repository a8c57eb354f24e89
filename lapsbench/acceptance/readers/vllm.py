"""vLLM's responses with `--per-request-spec-decode-metrics`, one a record: `metrics.speculative_decoding`.

"detailed" lists `per_step_accepted`, bonus excluded; "summary" has the `acceptance_histogram` only, and then the order
of the rounds is drawn. `num_spec_tokens` is the engine's k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lapsbench.acceptance.readers.reading import Reader, Reading
from lapsbench.acceptance.readers.unordered import of_histogram
from lapsbench.acceptance.recordings import Recording, from_rounds

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.readers.reading import Wanted
    from lapsbench.acceptance.records import Record
    from lapsbench.core import Longs

_STEPS, _HISTOGRAM = "per_step_accepted", "acceptance_histogram"


def _metrics(record: Record) -> dict[str, Any]:
    metrics = record.values.get("metrics")
    found = (
        metrics.get("speculative_decoding") if isinstance(metrics, dict) else record.values.get("spec_decode_metrics")
    )
    return found if isinstance(found, dict) else {}


def _knows(record: Record) -> bool:
    metrics = record.values.get("metrics")
    return bool(_metrics(record)) or (isinstance(metrics, dict) and "speculative_decoding" in metrics)


def _read(records: list[Record], path: Path, wanted: Wanted) -> Reading:
    recordings = [_recording(record) for record in records]
    limits = [record.count(_metrics(record).get("num_spec_tokens", 0), "num_spec_tokens") for record in records]
    limit = wanted.draft_tokens_max or max(limits) or None
    bank, notes = from_rounds(recordings, limit, wanted.prompt_tokens, str(path))
    unordered = sum(_STEPS not in _metrics(record) for record in records)
    if unordered:
        notes = (*notes, f"{unordered} responses tell no order of rounds: drawn")
    rounds = sum(len(each.accepted) for each in recordings)
    accepted = sum(int(each.accepted.sum()) for each in recordings)
    return Reading(_NAME, bank, 1 + accepted / rounds, _stated(records), notes)


def _recording(record: Record) -> Recording:
    usage = record.values.get("usage")
    prompt = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    prompt_tokens = record.count(prompt, "usage.prompt_tokens") or None if prompt is not None else None
    name = record.text("id") or f"row {record.row}"
    return Recording(name, record.text("category"), prompt_tokens, _rounds(record, name))


def _rounds(record: Record, name: str) -> Longs:
    metrics = _metrics(record)
    if _STEPS in metrics:
        return record.counts(metrics[_STEPS], _STEPS)
    return of_histogram(record, record.counts(metrics.get(_HISTOGRAM, []), _HISTOGRAM), name)


def _stated(records: list[Record]) -> float | None:
    totals = [(each.get("num_accepted_draft_tokens"), each.get("num_spec_steps")) for each in map(_metrics, records)]
    known = [(a, steps) for a, steps in totals if isinstance(a, int) and isinstance(steps, int)]
    steps = sum(steps for _, steps in known)
    return 1 + sum(a for a, _ in known) / steps if steps > 0 and len(known) == len(records) else None


_NAME = "vLLM"
READER: Final = Reader(_NAME, "metrics.speculative_decoding", _knows, _read)
