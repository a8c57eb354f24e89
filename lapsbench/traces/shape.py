"""Shapes a trace: arrival order, a window or limit, another rate. Every row left out is noted, and a long gap."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lapsbench.core import Trace

_T = TypeVar("_T", bound=np.generic)

FEWEST = 10
"""Of fewer requests, one gap is most of the time by chance."""


def in_order(trace: Trace) -> Trace:
    """Return the rows by arrival, equal arrivals as they were; both are noted."""
    late = int((trace.arrival_s < np.maximum.accumulate(trace.arrival_s)).sum())
    if late:
        note = f"{late} row{' was' if late == 1 else 's were'} out of order: sorted"
        trace = _take(trace, np.argsort(trace.arrival_s, kind="stable"), note)
    ties = int((np.diff(trace.arrival_s) == 0).sum())
    if ties:
        note = f"{ties} row{' arrives' if ties == 1 else 's arrive'} with the one before: in the order of the file"
        trace = replace(trace, notes=(*trace.notes, note))
    return trace


def cut(trace: Trace, *, window: tuple[float, float] | None = None, limit: int | None = None) -> Trace:
    """Keep the arrivals of a window (seconds from the first, half-open, re-based to 0), then the first `limit`.

    Raises:
        UsageError: the window is no stretch of time, or the limit is below 1.
        LapsbenchError: nothing arrives in the window.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"{limit} requests are none", where="--limit", hint="1 or more")
    if window is not None:
        trace = _window(trace, *window)
    if limit is not None and limit < len(trace):
        trace = _take(trace, np.arange(limit), f"limit: the first {limit} of {len(trace)} requests kept")
    return trace


def scale_to_rate(trace: Trace, rate_rps: float) -> Trace:
    """Stretch or squeeze the gaps so that requests / span = `rate_rps`; the first arrival becomes 0.

    Raises:
        UsageError: the rate is not a positive number, or its span is beyond float64.
        LapsbenchError: the trace has no gap to scale.
    """
    if not (math.isfinite(rate_rps) and rate_rps > 0):
        raise UsageError(f"{rate_rps} requests per second is no rate", where="--rate", hint="a number above 0")
    if not trace.span_s > 0:
        why = "has a single request" if len(trace) == 1 else "has all its requests at the same time"
        raise LapsbenchError(
            f"{why}: there is no gap to scale to {rate_rps} requests per second",
            where=f"trace {trace.name!r}",
            hint="its own clock (no --load or --rate), or a longer trace",
        )
    span_s = len(trace) / rate_rps
    if not 0 < span_s < math.inf:
        raise UsageError(f"{rate_rps} requests per second is out of range", where="--rate", hint="a rate nearer 1")
    # divided first: the last arrival is then 1.0 times the span, exactly
    arrival_s = (trace.arrival_s - trace.arrival_s[0]) / trace.span_s * span_s
    return replace(trace, arrival_s=arrival_s)


def idle(trace: Trace) -> list[str]:
    """Say where one gap is most of the trace: rates and loads are then hardly those of its busy parts."""
    if len(trace) < FEWEST:
        return []
    gaps_s = np.diff(trace.arrival_s)
    longest = int(gaps_s.argmax())
    gap_s, start_s = float(gaps_s[longest]), float(trace.arrival_s[longest] - trace.arrival_s[0])
    if not gap_s > trace.span_s / 2:
        return []
    busier = f"--window 0:{math.floor(start_s) + 1}" if 2 * (longest + 1) >= len(trace) else ""
    busier = busier or f"--window {math.floor(start_s + gap_s)}:{math.floor(trace.span_s) + 1}"
    what = (
        f"nothing arrives for {gap_s:,.6g} s from {start_s:,.6g} s on, {100 * gap_s / trace.span_s:.4g} % of the trace"
    )
    return [f"{what}: its rate and its load are averages over that; replay one part, as with {busier}"]


def _window(trace: Trace, start_s: float, end_s: float) -> Trace:
    if not 0 <= start_s < end_s:  # also refuses NaN
        raise UsageError(
            f"from {start_s} to {end_s} is no stretch of time", where="--window", hint="0 <= start < end, in seconds"
        )
    since_first_s = trace.arrival_s - trace.arrival_s[0]
    low, high = np.searchsorted(since_first_s, [start_s, end_s])
    if low == high:
        raise LapsbenchError(
            f"nothing arrives from {start_s:g} s to {end_s:g} s; the trace spans {trace.span_s:g} s",
            where=f"trace {trace.name!r}",
            hint="a wider window",
        )
    kept = f"{high - low} of {len(trace)} requests kept"
    note = f"window from {start_s:g} s to {end_s:g} s: {kept}" if high - low < len(trace) else ""
    inside = _take(trace, np.arange(low, high), note)
    return replace(inside, arrival_s=inside.arrival_s - inside.arrival_s[0])


def _take(trace: Trace, rows: NDArray[np.int64], note: str) -> Trace:
    def pick(column: NDArray[_T] | None) -> NDArray[_T] | None:
        return None if column is None else column[rows]

    return replace(
        trace,
        arrival_s=trace.arrival_s[rows],
        prompt_tokens=trace.prompt_tokens[rows],
        output_tokens=trace.output_tokens[rows],
        category=pick(trace.category),
        client_id=pick(trace.client_id),
        prompt_id=pick(trace.prompt_id),
        predicted_tokens=pick(trace.predicted_tokens),
        priority=pick(trace.priority),
        notes=(*trace.notes, note) if note else trace.notes,
    )
