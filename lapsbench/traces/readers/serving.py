"""Results of `vllm bench serve --save-detailed` and of SGLang's `bench_serving --output-details`: one JSON object.

Lists with an entry per request: `start_times` (seconds of a clock of their own), `input_lens`, `output_lens` and
`errors`, where a text says that the request failed. SGLang saves no `start_times`: it sends by a Poisson process of
`request_rate`, all at once where that is infinite, so arrivals are drawn anew by the same rule, and that is noted.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from lapsbench.errors import LapsbenchError
from lapsbench.streams import stream
from lapsbench.traces import check, clock, served
from lapsbench.traces.frame import Table
from lapsbench.traces.readers.reader import Reader

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source

_RATE = "request_rate"
_STARTS, _PROMPTS, _OUTPUTS, _ERRORS = "start_times", "input_lens", "output_lens", "errors"


def _read(source: Source, failed: Failed) -> Trace:
    table = _table(source, _only_run(source))
    failures = table.frame[_ERRORS].to_numpy()
    outputs = check.outputs(table, _OUTPUTS)
    outputs[failures] = 0  # some count what came before the failure
    # vLLM leaves 0 where a request failed before it was timed
    starts = table.frame[_STARTS].to_numpy()
    unsent = failures & (starts == 0) & (starts.max(initial=0.0) > 0)
    return served.served(
        table,
        READER.name,
        failed,
        arrivals=clock.arrivals(table, _STARTS, "s"),
        prompt_tokens=check.tokens(table, _PROMPTS, least=0),
        output_tokens=outputs,
        unsent=unsent,
    )


def _only_run(source: Source) -> dict[str, Any]:
    try:
        text = source.content
        runs = [json.loads(text)] if source.container == "json" else [json.loads(line) for line in _lines(text)]
    except (ValueError, RecursionError) as error:
        raise LapsbenchError(
            "is not JSON", where=str(source.path), hint="the file as the benchmark wrote it"
        ) from error
    if len(runs) != 1 or not isinstance(runs[0], dict):
        what = f"holds {len(runs)} runs, each with a clock of its own"
        raise LapsbenchError(what, where=str(source.path), hint="a file with one of them")
    return runs[0]


def _lines(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\n") if line.strip()]


def _table(source: Source, run: dict[str, Any]) -> Table:
    notes: tuple[str, ...] = ()
    if _STARTS not in run:
        run = {**run, _STARTS: _drawn(source, run)}
        notes = (f"no start times were saved: drawn anew at request_rate {run[_RATE]}, as the benchmark does",)
    sizes = {}
    columns = []
    for name in (_STARTS, _PROMPTS, _OUTPUTS):
        values = run[name]
        if not isinstance(values, list):
            raise LapsbenchError("is not a list", where=source.at(name), hint="a run saved with its details")
        sizes[name] = len(values)
        columns.append(pl.Series(name, values, dtype=pl.Float64, strict=False))
    errors = run.get(_ERRORS)
    if not isinstance(errors, list):
        errors = [""] * len(columns[0])
    sizes[_ERRORS] = len(errors)
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise LapsbenchError(f"lists of different lengths: {shown}", where=str(source.path), hint="a complete run")
    failures = pl.Series(_ERRORS, [bool(text) for text in errors], dtype=pl.Boolean)
    return Table(source, pl.DataFrame([*columns, failures]), notes)


def _drawn(source: Source, run: dict[str, Any]) -> list[float]:
    """Return a start for each request by the benchmark's own rule.

    Raises:
        LapsbenchError: the rate is not told either.
    """
    try:
        rate_rps = float(run[_RATE])
    except (KeyError, TypeError, ValueError, OverflowError):
        rate_rps = math.nan
    prompts = run[_PROMPTS]
    if not rate_rps > 0 or not isinstance(prompts, list):
        hint = "a benchmark that saves them: vllm bench serve --save-detailed"
        raise LapsbenchError("does not say when requests were sent", where=source.at(_STARTS), hint=hint)
    gaps = stream(0, "serving benchmark/gaps").exponential(size=len(prompts))
    starts_s = np.cumsum(gaps) / max(rate_rps, 1e-9)
    return [float(start_s) for start_s in starts_s]


READER: Final = Reader("serving benchmark", ("jsonl", "json"), (_PROMPTS, _OUTPUTS), (_STARTS, _ERRORS), _read)
