"""Results of `vllm bench serve --save-detailed` and of SGLang's `bench_serving --output-details`: one JSON object.

Lists with an entry per request: `start_times` (seconds of a clock of their own), `input_lens`, `output_lens` and
`errors`, where a text says that the request failed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from lapsbench.errors import LapsbenchError
from lapsbench.traces import check
from lapsbench.traces.readers.reader import Reader
from lapsbench.traces.table import Table

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source

_STARTS, _PROMPTS, _OUTPUTS, _ERRORS = "start_times", "input_lens", "output_lens", "errors"


def _read(source: Source, failed: Failed) -> Trace:
    table = _table(source, _only_run(source))
    failures = table.frame[_ERRORS].to_numpy()
    outputs = check.tokens(table, _OUTPUTS, least=0)
    outputs[failures] = 0  # some count what came before the failure
    return check.served(
        table,
        READER.name,
        failed,
        arrival_s=check.times(table, _STARTS),
        prompt_tokens=check.tokens(table, _PROMPTS, least=0),
        output_tokens=outputs,
    )


def _only_run(source: Source) -> dict[str, Any]:
    try:
        text = source.text()
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
    if _STARTS not in run:
        hint = "a benchmark that saves them: vllm bench serve --save-detailed"
        raise LapsbenchError("does not say when requests were sent", where=source.at(_STARTS), hint=hint)
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
    return Table(
        source, pl.DataFrame([*columns, pl.Series(_ERRORS, [bool(text) for text in errors], dtype=pl.Boolean)])
    )


READER: Final = Reader("serving benchmark", ("jsonl", "json"), (_PROMPTS, _OUTPUTS), (_STARTS, _ERRORS), _read)
