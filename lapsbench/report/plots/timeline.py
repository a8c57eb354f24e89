"""One busy window: who waited and who was being served when, how many waited, how full the batch was.

From admission and finishing times alone: a run folder does not hold every step. A preempted request's pauses are
inside its bar. The engine is work-conserving, so at every step boundary min(live, places) places of the batch are taken
where KV memory is unlimited; where it is limited that is the most there can be, and `exact` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import REJECTED
from lapsbench.metrics.pool import policies

if TYPE_CHECKING:
    from lapsbench.core import Engine, Floats, Longs
    from lapsbench.reading import Run
    from lapsbench.store.saved import Requests

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
    requests = run.saved.requests(cells[result.baseline])
    shown = _busiest(requests)
    if not len(shown):
        return None
    start_s = float(requests.arrival_s[shown[0]])
    ends = requests.outcome.finished_s[shown]
    until_s = float(np.quantile(ends[np.isfinite(ends)], SHOWN)) if np.isfinite(ends).any() else start_s
    span_s = max(until_s, float(requests.arrival_s[shown[-1]])) - start_s
    if span_s <= 0:
        return None
    found = Timeline(seed, start_s, span_s, [], [], exact=_always_resident(result.engine))
    for policy in policies(result.cells):
        mine = requests if policy == result.baseline else run.saved.requests(cells[policy])
        found.bars.extend(_bars(mine, policy, shown, start_s, span_s))
        found.states.extend(_states(mine, policy, start_s, span_s, result.engine.max_batch))
    return found


def _always_resident(engine: Engine) -> bool:
    """Whether a job, once admitted, has a place or lost it to a better one: memory takes none from it."""
    return engine.rules == "ideal" and engine.kv_tokens == 0


def _busiest(requests: Requests) -> Longs:
    """Return the indices of the arrivals that find the most requests live."""
    served = np.flatnonzero(requests.outcome.status != REJECTED)
    if len(served) < 2:
        return np.empty(0, np.int64)
    arrival_s = requests.arrival_s[served]
    left = np.sort(requests.outcome.finished_s[served])  # NaN, never finished, sorts last
    live = np.arange(len(served)) - np.searchsorted(left, arrival_s, side="right")
    middle = int(np.argmax(live))
    first = min(max(middle - REQUESTS // 2, 0), max(len(served) - REQUESTS, 0))
    return np.asarray(served[first : first + REQUESTS])


def _bars(requests: Requests, policy: str, shown: Longs, start_s: float, span_s: float) -> list[dict[str, Any]]:
    rows = []
    outcome = requests.outcome
    for place, request in enumerate(shown.tolist(), start=1):
        edges = (requests.arrival_s[request], outcome.admitted_s[request], outcome.finished_s[request])
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
                        "tokens": int(requests.output_tokens[request]),
                    }
                )
    return rows


def _states(requests: Requests, policy: str, start_s: float, span_s: float, max_batch: int) -> list[dict[str, Any]]:
    served = requests.outcome.status != REJECTED
    instants = start_s + np.linspace(0.0, span_s, INSTANTS)
    live = _by(requests.arrival_s[served], instants) - _by(requests.outcome.finished_s[served], instants)
    batch = np.minimum(live, max_batch)
    rows = zip((instants - start_s).tolist(), (live - batch).tolist(), batch.tolist(), strict=True)
    return [
        {"policy": policy, "time_s": round(time_s, 3), "waiting": waiting, "batch": places}
        for time_s, waiting, places in rows
    ]


def _by(events_s: Floats, instants: Floats) -> Longs:
    """Count the events up to each instant; one that never happened is NaN."""
    return np.searchsorted(np.sort(events_s), instants, side="right")
