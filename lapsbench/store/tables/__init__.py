"""The registry of step cost formats: one file each, told apart by content.

A new format is a file here with a `READER`, and its line in `READERS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench import files
from lapsbench.errors import LapsbenchError
from lapsbench.store.tables import inference_lab, not_steps, own, sglang

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.store.tables.reader import CostReader, CostTable

READERS: tuple[CostReader, ...] = (
    own.PARQUET,
    own.READER,
    inference_lab.READER,
    sglang.READER,
    not_steps.LAYERS,
    not_steps.REQUESTS,
)


def read_costs(path: Path) -> CostTable:
    """Return the step costs of a file, in any of the known formats; gzip and zstd are unpacked.

    Raises:
        LapsbenchError: the file cannot be read, is of no known format, or holds times that price no step.
    """
    text = files.text(path)
    reader = next((reader for reader in READERS if reader.knows(text)), None)
    if reader is None:
        known = "; ".join(reader.needs for reader in READERS if reader.needs)
        raise LapsbenchError("has another header", where=str(path), hint=f"a profile, or one of: {known}")
    return reader.read(text, path)
