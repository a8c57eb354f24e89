"""One busy window: who waited and who was being served when, how many waited, how full the batch was.

From admission and finishing times alone: a run folder does not hold every step. A preempted request's pauses are
inside its bar. The engine is work-conserving, so at every step boundary min(live, places) places of the batch are taken
where KV memory is unlimited; where it is limited that is the most there can be, and `exact` says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import REJECTED
from lapsbench.metrics.pool import policies

if TYPE_CHECKING:
    from lapsbench.core import Engine, Floats, Longs
    from lapsbench.reading import Run
    from lapsbench.store.saved import SavedCell

REQUESTS = 40
"""Consecutive arrivals shown."""
INSTANTS = 81
SHOWN = 0.75
"""Share of the shown requests that the baseline has finished when the window ends."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Rows of JSON values.

    Attributes:
        seed: the one shown. start_s, span_s: the window, on the trace's clock.
        bars: policy, request (1 first), phase (waiting | served), from_s, to_s; in seconds after the window begins.
        states: policy, time_s, waiting, batch.
        exact: whether `batch` is what it was, or the most it can have been.
    """

    seed: int
    start_s: float
    span_s: float
    bars: list[dict[str, Any]]
    states: list[dict[str, Any]]
    exact: bool


def timeline(run: Run, load: float | None) -> Timeline | None:
    """Show the window around the baseline's longest queue; None where there are too few requests for one."""
    result = run.result
    seed = min(cell.seed for cell in result.cells)
    cells = {cell.policy: cell for cell in run.saved.cells if cell.load == load and cell.seed == seed}
    shown = _busiest(run, cells[result.baseline])
    if not shown:
        return None
    bars = _rows(run, cells[result.baseline], shown)
    start_s, ends = float(bars["arrival_s"][0]), bars["finished_s"]
    until_s = float(np.quantile(ends[np.isfinite(ends)], SHOWN)) if np.isfinite(ends).any() else start_s
    span_s = max(until_s, float(bars["arrival_s"][-1])) - start_s
    if span_s <= 0:
        return None
    found = Timeline(seed, start_s, span_s, [], [], exact=_always_resident(result.engine))
    for policy in policies(result.cells):
        rows = bars if policy == result.baseline else _rows(run, cells[policy], shown)
        found.bars.extend(_bars(rows, policy, start_s, span_s))
        found.states.extend(_states(run, cells[policy], start_s, span_s, result.engine.max_batch))
    return found


def _always_resident(engine: Engine) -> bool:
    """Whether a job, once admitted, has a place or lost it to a better one: memory takes none from it."""
    return engine.rules == "ideal" and engine.kv_tokens == 0


def _busiest(run: Run, cell: SavedCell) -> list[int]:
    """Return the places of the arrivals that find the most requests live; 8 bytes a request are in memory."""
    left, count = np.empty(run.saved.size(cell)), 0
    for part in run.saved.columns(cell, "finished_s", "status"):
        finished_s = part["finished_s"][part["status"] != REJECTED]
        left[count : count + len(finished_s)] = finished_s
        count += len(finished_s)
    if count < 2:
        return []
    left = left[:count]
    left.sort()  # NaN, never finished, last
    middle, most, before = 0, -math.inf, 0
    for part in run.saved.columns(cell, "arrival_s", "status"):
        arrival_s = part["arrival_s"][part["status"] != REJECTED]
        live = np.arange(before, before + len(arrival_s)) - np.searchsorted(left, arrival_s, side="right")
        if len(live) and live.max() > most:
            middle, most = before + int(np.argmax(live)), live.max()
        before += len(arrival_s)
    first = min(max(middle - REQUESTS // 2, 0), max(count - REQUESTS, 0))
    return _places(run, cell, first)


def _places(run: Run, cell: SavedCell, first: int) -> list[int]:
    """Return the places of `REQUESTS` requests that were not rejected, from the `first` of them on."""
    found: list[int] = []
    before = served = 0
    for part in run.saved.columns(cell, "status"):
        mine = np.flatnonzero(part["status"] != REJECTED)
        wanted = slice(max(first - served, 0), max(first + REQUESTS - served, 0))
        found += (mine[wanted] + before).tolist()
        before, served = before + len(part["status"]), served + len(mine)
    return found


def _rows(run: Run, cell: SavedCell, places: list[int]) -> dict[str, Any]:
    """Return what became of a few requests."""
    return run.saved.rows(cell, places, "arrival_s", "admitted_s", "finished_s", "output_tokens")


def _bars(found: dict[str, Any], policy: str, start_s: float, span_s: float) -> list[dict[str, Any]]:
    rows = []
    edges_s = zip(found["arrival_s"], found["admitted_s"], found["finished_s"], strict=True)
    for place, (edges, tokens) in enumerate(zip(edges_s, found["output_tokens"], strict=True), start=1):
        ends = [min(float(np.nan_to_num(edge, nan=np.inf)) - start_s, span_s) for edge in edges]
        for phase, low, high in zip(("waiting", "served"), ends, ends[1:], strict=False):
            if high > low:
                rows.append(
                    {
                        "policy": policy,
                        "request": place,
                        "phase": phase,
                        "from_s": round(low, 3),
                        "to_s": round(high, 3),
                        "tokens": int(tokens),
                    }
                )
    return rows


def _states(run: Run, cell: SavedCell, start_s: float, span_s: float, max_batch: int) -> list[dict[str, Any]]:
    instants = start_s + np.linspace(0.0, span_s, INSTANTS)
    live = np.zeros(INSTANTS, np.int64)
    for part in run.saved.columns(cell, "arrival_s", "finished_s", "status"):
        if len(part["arrival_s"]) and part["arrival_s"][0] > instants[-1]:
            break
        served = part["status"] != REJECTED
        live += _by(part["arrival_s"][served], instants) - _by(part["finished_s"][served], instants)
    batch = np.minimum(live, max_batch)
    rows = zip((instants - start_s).tolist(), (live - batch).tolist(), batch.tolist(), strict=True)
    return [
        {"policy": cell.policy, "time_s": round(time_s, 3), "waiting": waiting, "batch": places}
        for time_s, waiting, places in rows
    ]


def _by(events_s: Floats, instants: Floats) -> Longs:
    """Count the events up to each instant; one that never happened is NaN."""
    place = np.searchsorted(instants, events_s)  # of the first that has it; sorting the events took eight times as long
    return np.cumsum(np.bincount(place, minlength=INSTANTS + 1))[:INSTANTS]
