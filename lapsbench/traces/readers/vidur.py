"""Vidur's traces (microsoft/vidur, data/processed_traces), CSV; Frontier's have sessions besides."""

from __future__ import annotations

from typing import Final

from lapsbench.traces.readers.log import log

READER: Final = log("vidur", ("csv",), ("arrived_at", "num_prefill_tokens", "num_decode_tokens"), client="session_id")
