"""The registry of acceptance formats: one file each, told apart by content.

A new format is a file here with a `READER`, and its line in `TEXTS` or, for JSON, in `READERS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lapsbench import files
from lapsbench.acceptance.json_records import read_records
from lapsbench.acceptance.readers import (
    aiperf,
    eagle,
    inference_lab,
    llamacpp,
    per_round,
    rounds_parquet,
    sglang,
    specbench,
    specdecodebench,
    tensorrt_llm,
    vllm,
    vllm_log,
)
from lapsbench.acceptance.readers.reader import Wanted
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from lapsbench.acceptance.readers.reader import Reader, Reading, TextReader

READERS: tuple[Reader, ...] = (
    specbench.READER,
    specdecodebench.READER,
    per_round.READER,
    per_round.SAMPLES,
    vllm.READER,
    sglang.READER,
    aiperf.READER,
    eagle.READER,
    llamacpp.READER,
    tensorrt_llm.READER,
)
TEXTS: tuple[TextReader, ...] = (inference_lab.READER, rounds_parquet.READER, vllm_log.READER)


def read_acceptance(source: str, wanted: Wanted | None = None) -> Reading:
    """Read a file of recorded acceptance, in any of the known formats; gzip and zstd are unpacked.

    Raises:
        LapsbenchError: the file cannot be read, is of no known format, or holds a mean only.
    """
    path, wanted = Path(source), wanted or Wanted()
    text = files.text(path)
    for known in TEXTS:
        if known.knows(text):
            return known.read(text, path, wanted)
    if not text.lstrip().startswith((b"{", b"[")):
        raise _unknown(path, "is neither JSON nor a table of rounds")
    records = read_records(path, text)
    # the first records may be errors, of which no format knows anything
    reader = next((reader for record in records for reader in READERS if reader.knows(record)), None)
    if reader is None:
        keys = ", ".join(repr(key[:40]) for key in list(records[0].values)[:12]) if records else "none"
        raise _unknown(path, f"no known format of acceptance has these keys: {keys}")
    return reader.read(records, path, wanted)


def _unknown(path: Path, what: str) -> LapsbenchError:
    formats = [(reader.needs, reader.name) for reader in READERS] + [(text.needs, text.name) for text in TEXTS]
    known = "; ".join(f"{needs} ({name})" for needs, name in formats)
    return LapsbenchError(what, where=str(path), hint=f"a file with one of: {known}")
