"""SGLang's `bench_one_batch --result-filename`, JSON lines: the times of plain decoding and of prefill, no drafts.

`median_decode_latency` is a whole step of `batch_size` sequences, at a context of about `input_len` and half of
`output_len`. `prefill_latency` is the pass over all prompts: with several, that over one prompt of as many tokens,
where no single prompt was measured. A prompt of one token counts as the smallest batch's step.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lapsbench.acceptance.json_records import read_records
from lapsbench.core import Costs
from lapsbench.errors import LapsbenchError
from lapsbench.store.tables.reader import MOST, CostReader, CostTable

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.acceptance.json_records import Record

_DECODE, _PREFILL = "median_decode_latency", "prefill_latency"


def _read(text: bytes, path: Path) -> CostTable:
    steps: dict[tuple[int, int], list[float]] = defaultdict(list)
    prompts: dict[tuple[int, int], list[float]] = defaultdict(list)
    for record in read_records(path, text):
        batch, length, output = (_size(record, name) for name in ("batch_size", "input_len", "output_len"))
        if record.values.get(_DECODE) is not None:  # an answer of one token has no step
            steps[batch, length + output // 2].append(_seconds(record, _DECODE))
        if record.values.get(_PREFILL) is not None and batch * length <= MOST:
            prompts[batch, batch * length].append(_seconds(record, _PREFILL))
    if not steps:
        raise LapsbenchError("times no step", where=str(path), hint="bench_one_batch with --output-len 2 or more")
    rows: dict[tuple[str, int, int, int], float] = {}
    for (batch, context), times in sorted(steps.items()):
        rows["verify", batch, 1, context] = float(np.median(times))
    if prompts:
        rows["prefill", 1, 1, 0] = next(iter(rows.values()))
    for (_, tokens), times in sorted(prompts.items()):  # a single prompt before a batch of as many tokens
        rows.setdefault(("prefill", 1, tokens, 0), float(np.median(times)))
    return CostTable(_costs(rows), _about(path))


def _costs(rows: dict[tuple[str, int, int, int], float]) -> Costs:
    component, *sizes = zip(*rows, strict=True)
    batch, query, context = (np.array(values, dtype=np.int32) for values in sizes)
    return Costs(np.array(component, dtype=object), batch, query, context, np.array(list(rows.values())))


def _about(path: Path) -> dict[str, Any]:
    return {
        "label": f"decode and prefill times of SGLang's bench_one_batch from {path.name}, drafting not priced",
        "source": f"{path.name}: bench_one_batch",
        "formulas": {
            "verify": "median_decode_latency, overhead in it, at input_len + output_len / 2 cached tokens",
            "prefill": "prefill_latency of one pass over batch_size * input_len tokens; one token: a decode step",
            "draft": "none given",
        },
    }


def _size(record: Record, name: str) -> int:
    value = record.count(record.values.get(name), name)
    if not value:
        raise record.fail(f"{name} is 0")
    return value


def _seconds(record: Record, name: str) -> float:
    value = record.values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MOST:
        raise record.fail(f"{name} is {str(value)[:40]}, not positive seconds")
    return float(value)


READER: Final = CostReader(
    "bench_one_batch's JSON lines (SGLang)",
    lambda text: text.lstrip().startswith((b"{", b"[")) and b'"prefill_latency"' in text and b'"input_len"' in text,
    _read,
)
