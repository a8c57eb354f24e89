"""The registry of trace formats: one file each, told apart by their column names.

A new format is a file here with a `READER`, and its line in `READERS`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lapsbench.errors import LapsbenchError
from lapsbench.traces import causes
from lapsbench.traces.readers import (
    aiperf,
    aiperf_sessions,
    azure,
    azure_ms,
    blis,
    burstgpt,
    guidellm,
    inference_perf,
    llmservingsim,
    mooncake,
    native,
    serving,
    steps,
    vidur,
)
from lapsbench.traces.readers.lengths import lengths_of

if TYPE_CHECKING:
    from lapsbench.traces.readers.reader import Reader
    from lapsbench.traces.source import Source

READERS: tuple[Reader, ...] = (
    native.READER,
    steps.READER,
    azure.READER,
    azure_ms.READER,
    burstgpt.READER,
    aiperf_sessions.READER,
    mooncake.READER,
    serving.READER,
    aiperf.READER,
    guidellm.READER,
    inference_perf.READER,
    inference_perf.DEEPER,
    llmservingsim.READER,
    llmservingsim.FLAT,
    blis.READER,
    vidur.READER,
)
"""In the order they are asked: a file that has our own columns is read by them, whatever else it has."""


def reader_for(source: Source, *, arrivals: bool = True) -> Reader:
    """Return the first reader whose columns the file has; without `arrivals`, their column may be missing.

    Raises:
        LapsbenchError: none has; or a column it reads is there twice.
    """
    found = set(source.columns)
    fitting = [
        reader for reader in READERS if source.container in reader.containers and found.issuperset(reader.columns)
    ]
    lengths = [
        lengths_of(reader)
        for reader in READERS
        if not arrivals and source.container in reader.containers and reader.tokens and found.issuperset(reader.tokens)
    ]
    # Parquet is ours alone, and its schema tag says more than missing columns would
    otherwise = [native.READER] if source.container == "parquet" else []
    for reader in (*fitting, *lengths, *otherwise):
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
    found = source.names()
    nearest = max(READERS, key=lambda reader: len(set(reader.columns).intersection(source.columns)))
    missing = [repr(name) for name in nearest.columns if name not in source.columns]
    hint = "--columns arrival=...,prompt=...,output=..., or a header that names the columns: "
    if len(missing) == len(nearest.columns):
        others = ", ".join(dict.fromkeys(reader.name for reader in READERS[1:]))
        what = f"no known trace format has these columns: {found}"
        hint = f"{hint}{','.join(READERS[0].columns)}; also read are {others}"
    else:
        what, hint = f"has no column {' and no '.join(missing)}; it has {found}", hint + ",".join(nearest.columns)
    if nearest.tokens and len(missing) == 1 and set(nearest.tokens).issubset(source.columns):
        hint = (
            f"{hint}; or, where nothing says who arrives when, lapsbench traces make OUT --like {source.path} --rate R"
        )
    return LapsbenchError(what, where=str(source.path), hint=hint)
