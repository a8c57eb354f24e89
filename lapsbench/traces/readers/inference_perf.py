"""inference-perf's `per_request_lifecycle_metrics.json`: one list, sent at `start_time`, seconds of a clock of its own.

Its counts lay under `info` at first, and lie deeper since it counts images.
"""

from __future__ import annotations

from typing import Final

from lapsbench.traces.columns import Ok
from lapsbench.traces.readers.log import log

_CONTAINERS: Final = ("json", "jsonl")
_OK: Final = Ok("error", ("",))

READER: Final = log("inference-perf", _CONTAINERS, ("start_time", "info.input_tokens", "info.output_tokens"), ok=_OK)
DEEPER: Final = log(
    "inference-perf",
    _CONTAINERS,
    ("start_time", "info.request_metrics.text.input_tokens", "info.response_metrics.output_tokens"),
    client="session_id",
    ok=_OK,
)
