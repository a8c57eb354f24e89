"""SGLang's responses, one a record: `meta_info` with `spec_verify_ct` and a histogram of accepted drafts.

`spec_accept_histogram[j]` (now also `spec_correct_drafts_histogram`) is the number of rounds that accepted j drafts,
bonus excluded; `spec_accept_length` includes it. The order of the rounds is not told: it is drawn. Without a histogram
the accepted drafts are spread evenly over the rounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lapsbench.acceptance.readers.reading import Reader, Reading
from lapsbench.acceptance.readers.unordered import of_histogram, of_totals
from lapsbench.acceptance.recordings import Recording, from_rounds

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.readers.reading import Wanted
    from lapsbench.acceptance.records import Record
    from lapsbench.core import Longs

_ROUNDS = "spec_verify_ct"
_HISTOGRAMS = ("spec_correct_drafts_histogram", "spec_accept_histogram")
_ACCEPTED = ("spec_num_correct_drafts", "spec_accept_token_num", "spec_accepted_drafts")


def _meta(record: Record) -> dict[str, Any]:
    found = record.values.get("meta_info")
    return found if isinstance(found, dict) else {}


def _read(records: list[Record], path: Path, wanted: Wanted) -> Reading:
    recordings = [_recording(record) for record in records]
    bank, notes = from_rounds(recordings, wanted.draft_tokens_max or _limit(records), wanted.prompt_tokens, str(path))
    even = sum(_histogram(record) is None for record in records)
    told = (
        [f"the order of the rounds of {len(records) - even} responses is not told: drawn"]
        if even < len(records)
        else []
    )
    told += [f"{even} responses tell only their mean: spread evenly over their rounds"] if even else []
    rounds = sum(len(each.accepted) for each in recordings)
    accepted = sum(int(each.accepted.sum()) for each in recordings)
    return Reading(_NAME, bank, 1 + accepted / rounds, _stated(records), (*notes, *told))


def _recording(record: Record) -> Recording:
    meta = _meta(record)
    name = str(meta.get("id") or "") or f"row {record.row}"
    prompt = meta.get("prompt_tokens")
    prompt_tokens = record.count(prompt, "prompt_tokens") or None if prompt is not None else None
    return Recording(name, record.text("category"), prompt_tokens, _rounds(record, name))


def _rounds(record: Record, name: str) -> Longs:
    histogram = _histogram(record)
    if histogram is not None:
        return of_histogram(record, histogram, name)
    meta = _meta(record)
    rounds = record.count(meta.get(_ROUNDS, 0), _ROUNDS)
    key = next((key for key in _ACCEPTED if key in meta), None)
    if key is not None:
        return of_totals(record, record.count(meta[key], key), rounds)
    # prefill gives a token, and each round its bonus
    completion = record.count(meta.get("completion_tokens"), "completion_tokens")
    return of_totals(record, max(completion - 1 - rounds, 0), rounds)


def _histogram(record: Record) -> Longs | None:
    meta = _meta(record)
    key = next((key for key in _HISTOGRAMS if meta.get(key)), None)
    return record.counts(meta[key], key) if key else None


def _limit(records: list[Record]) -> int | None:
    """Return the engine's k, which is the last bin of its histogram; None where there is none."""
    bins = [len(histogram) - 1 for record in records if (histogram := _histogram(record)) is not None]
    return max(bins) if len(bins) == len(records) else None


def _stated(records: list[Record]) -> float | None:
    """Return completion tokens over rounds, which is `spec_accept_length` pooled."""
    totals = [(_meta(record).get("completion_tokens"), _meta(record).get(_ROUNDS)) for record in records]
    known = [(tokens, rounds) for tokens, rounds in totals if isinstance(tokens, int) and isinstance(rounds, int)]
    rounds = sum(each for _, each in known)
    return sum(tokens for tokens, _ in known) / rounds if rounds > 0 and len(known) == len(records) else None


_NAME = "SGLang"
READER: Final = Reader(_NAME, "meta_info.spec_verify_ct", lambda record: _ROUNDS in _meta(record), _read)
