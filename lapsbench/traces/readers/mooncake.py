"""Mooncake traces (kvcache-ai/Mooncake), JSON lines: timestamp in milliseconds, input_length, output_length.

Arrivals come batched, many at the same millisecond: ties keep the order of the file. `hash_ids`, which name common
prefixes, are not read: no prefix is cached in the step model.
"""

from __future__ import annotations

from typing import Final

from lapsbench.traces.readers.log import log

READER: Final = log("mooncake", ("jsonl", "json"), ("timestamp", "input_length", "output_length"), unit="ms")
