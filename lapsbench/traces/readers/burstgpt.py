"""BurstGPT 1 to 3 (HPMLL/BurstGPT), CSV; read by name, since version 3 inserts two columns in the middle.

A failed request has 0 response tokens. The log type is the category, and a session of version 3 the client.
"""

from __future__ import annotations

from typing import Final

from lapsbench.traces.readers.log import log

READER: Final = log(
    "burstgpt",
    ("csv",),
    ("Timestamp", "Request tokens", "Response tokens"),
    category="Log Type",
    client="Session ID",
)
