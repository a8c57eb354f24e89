"""What a step log says of an engine: who waited how long, how full the steps were, who lost their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lapsbench.core import Bools, Floats
    from lapsbench.store.steps import Steps


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of the requests that finished, float64 [F], seconds; TPOT of those with two tokens or more."""

    ttft_s: Floats
    jct_s: Floats
    tpot_s: Floats


@dataclass(frozen=True, slots=True)
class StepSummary:
    """A step log in numbers.

    Attributes:
        requests: that arrived; finished, aborted and rejected of them, the others had not left when the log ended.
        mean_batch: requests a step.
        mixed: share of the steps that decode and prefill.
        preemptions: how often a request lost its place.
        busy_s: time in steps, of span_s from the first arrival to the last end.
    """

    requests: int
    finished: int
    aborted: int
    rejected: int
    latencies: Latencies
    steps: int
    mean_batch: float
    mixed: float
    preemptions: int
    busy_s: float
    span_s: float


def summarize(log: Steps) -> StepSummary:
    """Boil a step log down."""
    left = [each.status for each in log.departures.values()]
    count, steps = len(log.arrivals), len(log.start_s)
    step, tokens = log.column("step"), log.column("tokens")
    batch = np.bincount(step[tokens > 0], minlength=steps)
    decodes = _decodes(log)
    prefills = (tokens > 0) & ~decodes
    mixed = (np.bincount(step[decodes], minlength=steps) > 0) & (np.bincount(step[prefills], minlength=steps) > 0)
    arrivals = [each.arrival_s for each in log.arrivals]
    ends = [*log.end_s.tolist(), *(each.at_s for each in log.departures.values())]
    return StepSummary(
        requests=count,
        finished=left.count("finished"),
        aborted=left.count("aborted"),
        rejected=left.count("rejected"),
        latencies=_latencies(log),
        steps=steps,
        mean_batch=float(batch.mean()) if steps else 0.0,
        mixed=float(mixed.mean()) if steps else 0.0,
        preemptions=int(log.column("preempted").sum()),
        busy_s=float((log.end_s - np.maximum(log.start_s, np.concatenate([[-np.inf], log.end_s[:-1]]))).sum()),
        span_s=max(ends) - min(arrivals) if arrivals and ends else 0.0,
    )


def _decodes(log: Steps) -> Bools:
    """Return bool [R], which rows are a round: all of the context was there but what was emitted last, and drafts."""
    request, emitted = log.column("request"), log.column("emitted")
    prompt = np.array([each.prompt_tokens for each in log.arrivals], np.int64)
    before, context = np.zeros(len(prompt), np.int64), np.zeros(len(request), np.int64)
    for row, (who, new) in enumerate(zip(request.tolist(), emitted.tolist(), strict=True)):
        context[row] = prompt[who] + before[who]
        before[who] += new
    begun: Bools = context > prompt[request]
    rounds: Bools = begun & (log.column("tokens") == log.column("drafts") + 1) & (log.column("cached") >= context - 1)
    return rounds


def _latencies(log: Steps) -> Latencies:
    emits = log.column("emitted") > 0
    request, end_s = log.column("request")[emits], log.end_s[log.column("step")[emits]]
    first_s, last_s = (np.full(len(log.arrivals), np.nan) for _ in range(2))
    first_s[request[::-1]] = end_s[::-1]
    last_s[request] = end_s
    arrival_s = np.array([each.arrival_s for each in log.arrivals], np.float64)
    done = np.zeros(len(arrival_s), np.bool_)
    done[[number for number, each in log.departures.items() if each.status == "finished"]] = True
    done &= ~np.isnan(first_s)
    several = done & (log.emitted > 1)
    return Latencies(
        ttft_s=(first_s - arrival_s)[done],
        jct_s=(last_s - arrival_s)[done],
        tpot_s=((last_s - first_s)[several] / (log.emitted[several] - 1)),
    )
