"""The registry of trace formats: one file each, told apart by their column names.

A new format is a file here with a `READER`, and its line in `READERS`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lapsbench.errors import LapsbenchError
from lapsbench.traces import causes
from lapsbench.traces.readers import azure, azure_ms, burstgpt, mooncake, native, serving

if TYPE_CHECKING:
    from lapsbench.traces.readers.reader import Reader
    from lapsbench.traces.source import Source

READERS: tuple[Reader, ...] = (
    native.READER,
    azure.READER,
    azure_ms.READER,
    burstgpt.READER,
    mooncake.READER,
    serving.READER,
)
"""In the order they are asked: a file that has our own columns is read by them, whatever else it has."""


def reader_for(source: Source) -> Reader:
    """Return the first reader whose columns the file has.

    Raises:
        LapsbenchError: none has; or a column it reads is there twice.
    """
    found = set(source.columns)
    if source.container == "parquet":
        # ours alone, and its schema tag says more than missing columns would
        _refuse_twins(source, native.READER)
        return native.READER
    for reader in READERS:
        if source.container in reader.containers and found.issuperset(reader.columns):
            _refuse_twins(source, reader)
            return reader
    raise _unknown(source)


def _refuse_twins(source: Source, reader: Reader) -> None:
    twins = [name for name, count in Counter(source.columns).items() if count > 1]
    for name in twins:
        if name in reader.columns or name in reader.optional:
            raise LapsbenchError("the column is there twice", where=source.at(name), hint="renaming one of the two")


def _unknown(source: Source) -> LapsbenchError:
    if source.container == "csv" and (cause := causes.of_header(source.columns)):
        return LapsbenchError(cause[0], where=str(source.path), hint=cause[1])
    found = ", ".join(repr(name[:40]) for name in source.columns[:12]) or "none"
    nearest = max(READERS, key=lambda reader: len(set(reader.columns).intersection(source.columns)))
    missing = [repr(name) for name in nearest.columns if name not in source.columns]
    if len(missing) == len(nearest.columns):
        layouts = "; ".join(f"{','.join(reader.columns)} ({reader.name})" for reader in READERS)
        what, names = f"no known trace format has these columns: {found}", f"one of {layouts}"
    else:
        what, names = f"has no column {' and no '.join(missing)}; it has {found}", ",".join(nearest.columns)
    return LapsbenchError(
        what,
        where=str(source.path),
        hint=f"--columns arrival=...,prompt=...,output=..., or a header that names the columns: {names}",
    )
