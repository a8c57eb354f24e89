"""Azure LLM inference traces of 2023, 2024 and 2025 (Azure/AzurePublicDataset), CSV with the same header.

2023 writes `2023-11-16 18:15:46.6805900`, 2024 writes `2024-05-12 08:47:44.022580+00:00`: the first row tells. The
multimodal trace of 2025 has a column `NumImages` more, which is not read: images are part of no step cost.
"""

from __future__ import annotations

from typing import Final

from lapsbench.traces.readers.log import log

READER: Final = log("azure", ("csv",), ("TIMESTAMP", "ContextTokens", "GeneratedTokens"), unit=None)
