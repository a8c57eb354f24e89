"""Azure LLM inference traces of 2023 and 2024 (Azure/AzurePublicDataset), CSV with the same header.

2023 writes `2023-11-16 18:15:46.6805900`, 2024 writes `2024-05-12 08:47:44.022580+00:00`: the first row tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from lapsbench.traces import check
from lapsbench.traces.readers.reader import Reader
from lapsbench.traces.table import Table, read_table

if TYPE_CHECKING:
    from lapsbench.core import Floats, Trace
    from lapsbench.traces.source import Source

_TIME, _PROMPT, _OUTPUT = "TIMESTAMP", "ContextTokens", "GeneratedTokens"
# int64 nanoseconds wrap around silently outside 1677..2262: only years well inside may reach the parser
_CLOCK = r"^(19|20|21)\d\d-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,9})?"
_ZONE = r"[+-]\d\d:\d\d$"


def _read(source: Source) -> Trace:
    table = read_table(source, READER.columns, READER.optional)
    return check.azure(
        table,
        READER.name,
        arrival_s=_seconds(table),
        prompt_tokens=check.tokens(table, _PROMPT, least=0),
        output_tokens=check.tokens(table, _OUTPUT, least=0),
    )


def _seconds(table: Table) -> Floats:
    """Return float64 [N], seconds since the earliest row."""
    text = table.frame[_TIME].str.strip_chars()
    if not len(text):
        return np.zeros(0)
    zoned = bool(pl.Series([text[0] or ""]).str.contains(_ZONE)[0])
    shape = _CLOCK + (_ZONE if zoned else "$")
    safe = pl.DataFrame({"text": text}).select(pl.when(pl.col("text").str.contains(shape)).then(pl.col("text")))
    pattern = "%Y-%m-%d %H:%M:%S%.f" + ("%:z" if zoned else "")
    moments = safe["text"].str.to_datetime(pattern, time_unit="ns", strict=False)
    example = "2024-05-12 08:47:44.022580+00:00" if zoned else "2023-11-16 18:15:46.6805900"
    check.refuse(table, _TIME, moments.is_null(), "is not a time", hint=f"times like the first row's: {example}")
    nanoseconds = moments.dt.epoch("ns").to_numpy()
    seconds: Floats = (nanoseconds - nanoseconds.min()) / 1e9
    return seconds


READER: Final = Reader("azure", ("csv",), (_TIME, _PROMPT, _OUTPUT), (), _read)
