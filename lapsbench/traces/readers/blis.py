"""BLIS TraceV2 (inference-sim), CSV in microseconds; `input_tokens` leaves out the prefix that a group shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from lapsbench.core import TOKENS_MOST
from lapsbench.traces import check
from lapsbench.traces.columns import Ok
from lapsbench.traces.readers.log import log

if TYPE_CHECKING:
    from lapsbench.core import Bools, Ints
    from lapsbench.traces.frame import Table

_OWN, _SHARED = "input_tokens", "prefix_length"


def _prompts(table: Table, failures: Bools) -> Ints:
    """Add up what was sent: no prefix is cached in the step model."""
    own = check.tokens(table, _OWN, least=0, absent=failures)
    if _SHARED not in table.frame.columns:
        return own
    whole = own.astype(np.int64) + check.tokens(table, _SHARED, least=0, absent=np.ones_like(failures))
    check.refuse(table, _SHARED, pl.Series(whole > TOKENS_MOST), "is too much", hint="checking what the column holds")
    return whole.astype(np.int32)


READER: Final = log(
    "blis",
    ("csv",),
    ("arrival_time_us", _OWN, "output_tokens"),
    unit="us",
    category="slo_class",
    client="client_id",
    ok=Ok("status", ("ok",)),
    prompts=_prompts,
    more=(_SHARED,),
)
