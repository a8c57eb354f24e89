"""BurstGPT 1 to 3 (HPMLL/BurstGPT), CSV; read by name, since version 3 inserts two columns in the middle.

A failed request has 0 response tokens. The log type is the category, and a session of version 3 the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lapsbench.traces import check
from lapsbench.traces.readers.reader import Reader
from lapsbench.traces.table import read_table

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source

_TIME, _PROMPT, _OUTPUT = "Timestamp", "Request tokens", "Response tokens"
_KIND, _SESSION = "Log Type", "Session ID"


def _read(source: Source, failed: Failed) -> Trace:
    table = read_table(source, READER.columns, READER.optional)
    return check.served(
        table,
        READER.name,
        failed,
        arrival_s=check.times(table, _TIME),
        prompt_tokens=check.tokens(table, _PROMPT, least=0),
        output_tokens=check.tokens(table, _OUTPUT, least=0),
        category=check.strings(table, _KIND),
        client_id=check.strings(table, _SESSION),
    )


READER: Final = Reader("burstgpt", ("csv",), (_TIME, _PROMPT, _OUTPUT), (_KIND, _SESSION), _read)
