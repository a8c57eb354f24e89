"""The summary of a cell whose requests come in parts: of more than `core.LARGE`, which are never in memory together.

Counts and sums of parts add up to those of the whole; quantiles come from a sketch, and `approximate` says so.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import FINISHED, PART, REJECTED, STATUS, UNFINISHED
from lapsbench.metrics import statistics
from lapsbench.metrics.catalog import METRICS
from lapsbench.metrics.definitions import request_metrics
from lapsbench.metrics.intervals import Sums
from lapsbench.metrics.recomputing import recomputing, together
from lapsbench.metrics.saturation import LiveRequests
from lapsbench.metrics.sketch import Sketch
from lapsbench.metrics.summary import CellSummary, conserved, in_time, known

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lapsbench.core import Floats, Ints, Outcome
    from lapsbench.metrics.recomputing import Recomputing
    from lapsbench.metrics.slo import Slo

SCALARS = ("alone_s", "steps", "makespan_s", "lookups", "lookups_beyond", "stopped", "by_batch", "by_drafts_s")
"""Fields of `Outcome` that a slice of the requests has whole, but for the first."""


@dataclass(frozen=True, slots=True)
class Part:
    """Requests that follow each other, and what became of them; what only the whole run has is in each."""

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    outcome: Outcome


def parts(arrival_s: Floats, prompt_tokens: Ints, output_tokens: Ints, outcome: Outcome) -> Iterator[Part]:
    """Cut a whole cell into parts."""
    for first in range(0, len(arrival_s), PART):
        rows = slice(first, first + PART)
        yield Part(arrival_s[rows], prompt_tokens[rows], output_tokens[rows], rows_of(outcome, rows))


def rows_of(outcome: Outcome, rows: slice) -> Outcome:
    """Return what became of some of the requests; what only the whole run has stays."""
    arrays = ["alone_s", *(each.name for each in fields(outcome) if each.name not in SCALARS)]
    return replace(outcome, **{name: getattr(outcome, name)[rows] for name in arrays})


def summarize_in_parts(
    arrival_s: Floats,
    output_tokens: Ints,
    outcome: Outcome,
    *,
    policy: str,
    load: float | None,
    seed: int,
    oracle: bool = False,
    bounds: str = "",
    warmup: int = 0,
    slo: Slo | None = None,
    prompt_tokens: Ints,
) -> CellSummary:
    """Boil down a cell that is in memory without making arrays as long as it."""
    first_s, last_s = float(arrival_s.min()), float(arrival_s.max())
    found = Gathering(policy, len(arrival_s), first_s, last_s, warmup, slo)
    for part in parts(arrival_s, prompt_tokens, output_tokens, outcome):
        found.add(part)
    return found.summary(load=load, seed=seed, oracle=oracle, bounds=bounds)


class Gathering:
    """What a summary is made of, added up part by part.

    Args:
        policy: for errors.
        requests: how many there are in all.
        first_s, last_s: their first and last arrival.
        warmup: how many of the first are left out of latencies.
        slo: for goodput.
    """

    def __init__(self, policy: str, requests: int, first_s: float, last_s: float, warmup: int, slo: Slo | None) -> None:
        self.policy, self.requests, self.warmup, self.slo = policy, requests, warmup, slo
        self.quantiles = statistics.wanted_quantiles()
        self.sketches = {quantity: Sketch() for quantity in self.quantiles}
        self.blocks: dict[str, list[Sums]] = defaultdict(list)
        self.totals = statistics.Totals()
        self.live = LiveRequests(first_s, last_s)
        self.counts = np.zeros(len(STATUS), np.int64)
        self.histogram = np.zeros(statistics.BINS, np.int64)
        self.again: list[Recomputing] = []
        self.seen = self.measured = 0

    def add(self, part: Part) -> None:
        """Add the next requests, in order of arrival."""
        outcome, size = part.outcome, len(part.arrival_s)
        self.counts += conserved(self.policy, size, outcome)
        requests = request_metrics(part.arrival_s, part.output_tokens, outcome)
        in_time(self.policy, requests, outcome, self.seen)
        window = requests.finished & (np.arange(self.seen, self.seen + size) >= self.warmup)
        for quantity, sketch in self.sketches.items():
            values = getattr(requests, quantity)[window]
            sketch.add(values[np.isfinite(values)])
        self.histogram += statistics.histogram(requests.jct_s[window])
        summed = statistics.block_sums(requests, outcome, window, self.warmup, self.seen, self.requests)
        for name, sums in summed.items():
            self.blocks[name].append(sums)
        self.totals += statistics.totals(part.arrival_s, part.output_tokens, outcome, requests, self.slo)
        served = outcome.status != REJECTED
        self.live.add(part.arrival_s[served], outcome.finished_s[served])
        self.again.append(recomputing(part.prompt_tokens, part.output_tokens, outcome))
        self.seen += size
        self.measured += int(window.sum())
        self.last = outcome

    def summary(self, *, load: float | None, seed: int, oracle: bool, bounds: str) -> CellSummary:
        """Return the summary of all parts; as `summary.summarize` does of a whole, but for its quantiles."""
        blocks = {name: _added(sums) for name, sums in self.blocks.items()}
        blocks = {name: sums for name, sums in blocks.items() if sums.counts.sum() > 0}
        values = {name: float(sums.sums.sum() / sums.counts.sum()) for name, sums in blocks.items()}
        for quantity, shares in self.quantiles.items():
            if len(self.sketches[quantity]):
                found = self.sketches[quantity].quantiles(list(shares.values()))
                values |= dict(zip(shares, found, strict=True))
        values |= statistics.rates(self.totals, self.last)
        return CellSummary(
            policy=self.policy,
            oracle=oracle,
            load=load,
            seed=seed,
            arrivals=self.seen,
            finished=int(self.counts[FINISHED]),
            rejected=int(self.counts[REJECTED]),
            unfinished=int(self.counts[UNFINISHED]),
            measured=self.measured,
            warmup=self.warmup,
            metrics={metric.name: known(values.get(metric.name)) for metric in METRICS},
            blocks=blocks,
            jct_histogram=self.histogram,
            saturation=self.live.saturation(),
            stopped=self.last.stopped,
            recomputing=together(self.again),
            bounds=bounds,
            approximate=True,
            by_batch=self.last.by_batch,
            by_drafts_s=self.last.by_drafts_s,
        )


def _added(parts: list[Sums]) -> Sums:
    return Sums(np.sum([each.sums for each in parts], axis=0), np.sum([each.counts for each in parts], axis=0))
