"""AIPerf's record of a run, `profile_export.jsonl`: a line a request, sent at `request_start_ns` since 1970.

A request that failed has an `error`, no output, and its prompt under another name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import polars as pl

from lapsbench.traces import check
from lapsbench.traces.columns import Ok
from lapsbench.traces.readers.log import log

if TYPE_CHECKING:
    from lapsbench.core import Bools, Ints
    from lapsbench.traces.frame import Table

_SENT, _FAILED = "metrics.input_sequence_length.value", "metrics.error_isl.value"


def _prompts(table: Table, failures: Bools) -> Ints:
    if _FAILED in table.frame.columns:
        table = replace(table, frame=table.frame.with_columns(pl.coalesce(_SENT, _FAILED)))
    return check.tokens(table, _SENT, least=0, absent=failures)


READER: Final = log(
    "aiperf",
    ("jsonl", "json"),
    ("metadata.request_start_ns", _SENT, "metrics.output_sequence_length.value"),
    unit="ns",
    client="metadata.x_correlation_id",
    ok=Ok("error", ("",)),
    prompts=_prompts,
    more=(_FAILED,),
)
