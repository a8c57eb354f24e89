"""Slices of the Azure traces with arrivals in milliseconds: arrival_ms, prompt_tokens, output_tokens."""

from __future__ import annotations

from typing import Final

from lapsbench.traces.readers.log import log

READER: Final = log("azure-ms", ("csv",), ("arrival_ms", "prompt_tokens", "output_tokens"), unit="ms")
