"""A step log of `lapsbench.vllm`: who arrived when, with which prompt; the output is what the steps emitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from lapsbench.store.steps import parse
from lapsbench.traces import clock, served
from lapsbench.traces.frame import Table, count
from lapsbench.traces.readers.reader import Reader

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source


def _read(source: Source, failed: Failed) -> Trace:
    log = parse(source.content, str(source.path))
    cut = sum(each.status == "aborted" for each in log.departures.values())
    going = len(log.arrivals) - len(log.departures)
    fates = ((cut, "aborted"), (going, "still there when the log ended"))
    notes = tuple(f"{count(n, 'request')} {fate}: with what was emitted by then" for n, fate in fates if n)
    table = Table(source, pl.DataFrame({"request": range(len(log.arrivals))}), (*log.notes, *notes))
    return served.served(
        table,
        READER.name,
        failed,
        arrivals=clock.Arrivals(np.array([each.arrival_s for each in log.arrivals], np.float64)),
        prompt_tokens=np.array([each.prompt_tokens for each in log.arrivals], np.int32),
        output_tokens=log.emitted.astype(np.int32),
        predicted_tokens=np.array([each.predicted_tokens for each in log.arrivals], np.float64),
    )


READER: Final = Reader("steps", ("jsonl",), ("schema", "rules_version", "request", "arrival_s"), (), _read)
