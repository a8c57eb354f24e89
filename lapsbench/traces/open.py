"""Opens a trace by shipped name or path: find the file, tell its format, read, cut to the rows asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lapsbench import files, resources
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.traces.catalog import CATALOG, cached
from lapsbench.traces.columns import Columns
from lapsbench.traces.plain import read_plain
from lapsbench.traces.shape import cut, idle, in_order
from lapsbench.traces.source import inspect

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source

LONGEST_S = 100 * 365.25 * 86_400
"""A longer trace has its arrivals in another unit, or a damaged one; over this much, float64 holds microseconds."""


def open_trace(
    source: str,
    *,
    window: tuple[float, float] | None = None,
    limit: int | None = None,
    columns: str | None = None,
    time_unit: str | None = None,
    failed: str = "drop",
    arrivals: bool = True,
) -> Trace:
    """Read a trace, check every row, and keep what was asked for.

    Args:
        source: a shipped name ("chat", "code"), a fetched name of the catalogue, the path of a file or pipe, or "-"
            for stdin; docs/traces.md lists the formats.
        window: seconds from the first arrival, start included, end not; the first arrival kept becomes 0.
        limit: at most this many requests, the earliest of the window.
        columns: for a layout of one's own, which column holds what: "arrival=ts,prompt=in,output=out".
        time_unit: of the arrivals, instead of what the format has: s, ms, us, ns, min or h.
        failed: "drop" requests without output, or "keep" them with one output token.
        arrivals: whether they are needed; without them a file of lengths will do.

    Raises:
        UsageError: no such name; a window, limit, column, unit or fate that means nothing.
        LapsbenchError: the file cannot be read as a trace, or nothing is left of it.
    """
    if failed not in ("drop", "keep"):
        raise UsageError(f"unknown value {failed!r}", where="--failed", hint="drop or keep")
    fate: Failed = "keep" if failed == "keep" else "drop"
    chosen = Columns.parse(columns, arrivals=arrivals) if columns is not None else None
    path = _find(source)
    origin = replace(inspect(path), time_unit=time_unit)
    trace = (read_plain(origin) if chosen is None else None) or _read(origin, chosen, fate, arrivals=arrivals)
    if arrivals or trace.arrival_s.any():  # lengths alone have no order
        trace = in_order(trace)
    if not len(trace):
        dropped = f" ({'; '.join(trace.notes)})" if trace.notes else ""
        raise LapsbenchError(f"holds no requests{dropped}", where=str(origin.path), hint="a file with at least one row")
    if trace.span_s > LONGEST_S:
        what = f"spans {trace.span_s:.3g} s, which is more than a century"
        raise LapsbenchError(
            what, where=str(origin.path), hint="the --time-unit of its arrivals, or leaving out rows at 0"
        )
    if time_unit is not None and trace.provenance.get("time_unit") != time_unit:
        what = f"a file of format {trace.provenance.get('format')!r} has no stamps of a unit to choose"
        raise UsageError(what, where="--time-unit", hint="leaving it out")
    if failed == "keep" and trace.provenance.get("format") == "native":
        what = "our own format has no failed requests: every row of it has output"
        raise UsageError(what, where="--failed keep", hint="leaving it out")
    trace = cut(replace(trace, name=origin.path.stem), window=window, limit=limit)
    return replace(trace, notes=(*trace.notes, *idle(trace)))


def _read(origin: Source, chosen: Columns | None, fate: Failed, *, arrivals: bool) -> Trace:
    """Read whatever is no plain file of ours."""
    from lapsbench.traces.readers import reader_for  # noqa: PLC0415 - all of them, and polars
    from lapsbench.traces.readers.by_columns import read_chosen  # noqa: PLC0415

    if chosen is not None:
        return read_chosen(origin, chosen, fate)
    return reader_for(origin, arrivals=arrivals).read(origin, fate)


def _find(source: str) -> Path:
    known = resources.names("traces")
    if source in known:
        return resources.shipped("traces") / f"{source}.parquet"
    if "://" in source:
        raise _address(source)
    path = Path(source)
    looks_like_a_name = source and path.name == source and not path.suffix
    if source == files.STDIN or (source and (not looks_like_a_name or _exists(path))):
        return path
    if source in CATALOG:
        return _fetched(source)
    raise UsageError(
        f"no shipped trace is called {source!r}, and no file is",
        where="trace",
        hint=f"{' or '.join(known) or 'installing lapsbench again'}, a name of `lapsbench traces list`, or the path "
        "of a file",
    )


def _address(source: str) -> UsageError:
    listed = next((entry.name for entry in CATALOG.values() if entry.url == source), None)
    hint = f"lapsbench traces get {listed}, and then {listed} as its name"
    if listed is None:
        hint = "lapsbench traces get NAME where `lapsbench traces list` has it, else curl -L ADDRESS | lapsbench ... -"
    return UsageError(f"{source[:120]!r} is an address; traces are read from files", where="trace", hint=hint)


def _fetched(name: str) -> Path:
    path = cached(CATALOG[name])
    if not _exists(path):
        raise LapsbenchError("is not on this machine yet", where=f"trace {name}", hint=f"lapsbench traces get {name}")
    return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or one with a NUL in it: no such file
        return False
