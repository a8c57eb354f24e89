"""The registry of acceptance formats: one file each, told apart by the first record.

A new format is a file here with a `READER`, and its line in `READERS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lapsbench import files
from lapsbench.acceptance.readers import inference_lab, per_round, sglang, specbench, specdecodebench, vllm
from lapsbench.acceptance.readers.reading import Wanted
from lapsbench.acceptance.records import read_records
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from lapsbench.acceptance.readers.reading import Reader, Reading

READERS: tuple[Reader, ...] = (
    specbench.READER,
    specdecodebench.READER,
    per_round.READER,
    per_round.SAMPLES,
    vllm.READER,
    sglang.READER,
)


def read_acceptance(source: str, wanted: Wanted | None = None) -> Reading:
    """Read a file of recorded acceptance, in any of the known formats; gzip and zstd are unpacked.

    Raises:
        LapsbenchError: the file cannot be read, or is of no known format.
    """
    path, wanted = Path(source), wanted or Wanted()
    text = files.text(path)
    if text.lstrip().startswith(inference_lab.HEADER):
        return inference_lab.read_rounds(path, text, wanted)
    if not text.lstrip().startswith((b"{", b"[")):
        raise _unknown(path, "is neither JSON nor a CSV of rounds")
    records = read_records(path, text)
    reader = next((reader for reader in READERS if records and reader.knows(records[0])), None)
    if reader is None:
        keys = ", ".join(repr(key[:40]) for key in list(records[0].values)[:12]) if records else "none"
        raise _unknown(path, f"no known format of acceptance has these keys: {keys}")
    return reader.read(records, path, wanted)


def _unknown(path: Path, what: str) -> LapsbenchError:
    known = "; ".join(f"{reader.needs} ({reader.name})" for reader in READERS)
    return LapsbenchError(what, where=str(path), hint=f"a file with one of: {known}; commits,category,a0,... (CSV)")
