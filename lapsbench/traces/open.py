"""Opens a trace by shipped name or path: find the file, tell its format, read, cut to the rows asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lapsbench import resources
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.traces.readers import reader_for
from lapsbench.traces.shape import cut, in_order
from lapsbench.traces.source import inspect

if TYPE_CHECKING:
    from lapsbench.core import Trace


def open_trace(source: str, *, window: tuple[float, float] | None = None, limit: int | None = None) -> Trace:
    """Read a trace, check every row, and keep what was asked for.

    Args:
        source: a shipped name ("chat", "code") or the path of a file; docs/traces.md lists the formats.
        window: seconds from the first arrival, start included, end not; the first arrival kept becomes 0.
        limit: at most this many requests, the earliest of the window.

    Raises:
        UsageError: no such shipped name; a window or limit that means nothing.
        LapsbenchError: the file cannot be read as a trace, or nothing is left of it.
    """
    path = _find(source)
    origin = inspect(path)
    trace = in_order(reader_for(origin).read(origin))
    if not len(trace):
        dropped = f" ({'; '.join(trace.notes)})" if trace.notes else ""
        raise LapsbenchError(f"holds no requests{dropped}", where=str(path), hint="a file with at least one row")
    return cut(replace(trace, name=path.stem), window=window, limit=limit)


def _find(source: str) -> Path:
    known = resources.names("traces")
    if source in known:
        return resources.shipped("traces") / f"{source}.parquet"
    path = Path(source)
    looks_like_a_name = source and path.name == source and not path.suffix
    if not source or (looks_like_a_name and not _exists(path)):
        raise UsageError(
            f"no shipped trace is called {source!r}, and no file is",
            where="trace",
            hint=f"{' or '.join(known) or 'installing lapsbench again'}, or the path of a file",
        )
    return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or one with a NUL in it: no such file
        return False
