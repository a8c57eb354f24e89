"""Azure LLM inference traces of 2023, 2024 and 2025 (Azure/AzurePublicDataset), CSV with the same header.

2023 writes `2023-11-16 18:15:46.6805900`, 2024 writes `2024-05-12 08:47:44.022580+00:00`: the first row tells. The
multimodal trace of 2025 has a column `NumImages` more, which is not read: images are part of no step cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lapsbench.traces import check, moments
from lapsbench.traces.readers.reader import Reader
from lapsbench.traces.table import read_table

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source

_TIME, _PROMPT, _OUTPUT = "TIMESTAMP", "ContextTokens", "GeneratedTokens"


def _read(source: Source, failed: Failed) -> Trace:
    table = read_table(source, READER.columns, READER.optional)
    return check.served(
        table,
        READER.name,
        failed,
        arrival_s=moments.seconds(table, _TIME),
        prompt_tokens=check.tokens(table, _PROMPT, least=0),
        output_tokens=check.tokens(table, _OUTPUT, least=0),
    )


READER: Final = Reader("azure", ("csv",), (_TIME, _PROMPT, _OUTPUT), (), _read)
