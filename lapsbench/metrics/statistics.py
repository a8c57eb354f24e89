"""From per-request values to the numbers of a cell: means, quantiles, run totals, block sums, histogram."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import FINISHED
from lapsbench.metrics.catalog import METRICS
from lapsbench.metrics.intervals import Sums
from lapsbench.metrics.sketch import Sketch, between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lapsbench.core import Floats, Ints, Longs, Outcome
    from lapsbench.metrics.definitions import Flags, RequestMetrics
    from lapsbench.metrics.slo import Slo

BLOCKS = 25
"""Parts of the measured arrivals, for intervals from one run."""
FEWEST_PER_BLOCK = 20
FEWEST_BLOCKS = 10
"""With fewer there is but one block, and no interval."""
BINS_PER_DECADE = 10
BINS_FROM = -3
BINS = 8 * BINS_PER_DECADE
"""JCT histogram: 1 ms to 100,000 s; what lies beyond goes to the end bins."""


def means(requests: RequestMetrics, outcome: Outcome, window: Flags, warmup: int) -> dict[str, tuple[float, Sums]]:
    """Return every metric that is a ratio of sums: its value, and the sums per block of measured arrivals.

    The blocks depend on nothing but the number of requests and the cut: they hold the same ones under every policy.
    """
    found = {}
    add_up = _adding_up(*_blocks(window, warmup))
    for name, top, bottom in _ratios(requests, outcome, window):
        total = float(bottom.sum())
        if total > 0:
            found[name] = float(top.sum()) / total, Sums(add_up(top), add_up(bottom))
    return found


def block_sums(
    requests: RequestMetrics, outcome: Outcome, window: Flags, warmup: int, first: int, count: int
) -> dict[str, Sums]:
    """Return the sums of `means` per block for a part of the requests: those from `first` on, of `count` in all."""
    add_up = _adding_up(*_blocks(window, warmup, first, count))
    return {name: Sums(add_up(top), add_up(bottom)) for name, top, bottom in _ratios(requests, outcome, window)}


def quantiles_without(values: Floats, share: float, window: Flags, warmup: int) -> Floats:
    """Return a quantile of what is defined in the window with each block left out in turn, float64 [blocks].

    Empty where there is but one block; NaN where leaving one out leaves nothing.
    """
    block, blocks = _blocks(window, warmup)
    measured = values[window]
    known = np.isfinite(measured)
    measured, block = measured[known], block[known]
    kept = (measured[block != number] for number in range(blocks if blocks > 1 else 0))
    return np.array([np.quantile(each, share) if len(each) else math.nan for each in kept])


class WithoutBlocks:
    """What `quantiles_without` returns, of requests that come in parts: from a sketch of each block.

    Args:
        share: of the quantile.
        warmup: how many of the first are left out.
        count: of all requests.
    """

    def __init__(self, share: float, warmup: int, count: int) -> None:
        self.share, self.warmup, self.count = share, warmup, count
        self.sketches: dict[int, Sketch] = {}
        self.blocks = 1

    def add(self, values: Floats, window: Flags, first: int) -> None:
        """Add the next requests, the first of them being number `first`."""
        block, self.blocks = _blocks(window, self.warmup, first, self.count)
        measured = values[window]
        known = np.isfinite(measured)
        measured, block = measured[known], block[known]
        for number in np.unique(block).tolist():
            self.sketches.setdefault(number, Sketch()).add(measured[block == number])

    def quantiles(self) -> Floats:
        """Return the quantile with each block left out in turn."""
        whole = sum((each.counts for each in self.sketches.values()), np.zeros_like(Sketch().counts))
        nothing = np.zeros_like(whole)
        kept = [self.sketches[each].counts if each in self.sketches else nothing for each in range(self.blocks)]
        return np.array([between(whole - each, self.share) for each in kept] if self.blocks > 1 else [])


def _blocks(window: Flags, warmup: int, first: int = 0, count: int | None = None) -> tuple[Longs, int]:
    """Return the block of each request of the window, and how many blocks there are."""
    measured = max((len(window) if count is None else count) - warmup, 1)
    blocks = min(BLOCKS, measured // FEWEST_PER_BLOCK)
    blocks = blocks if blocks >= FEWEST_BLOCKS else 1
    return (np.flatnonzero(window) + (first - warmup)) * blocks // measured, blocks


def quantiles(requests: RequestMetrics, window: Flags) -> dict[str, float]:
    """Return every metric that is a quantile, by linear interpolation."""
    found: dict[str, float] = {}
    for quantity, wanted in wanted_quantiles().items():
        values: Floats = getattr(requests, quantity)[window]
        values = values[np.isfinite(values)]
        if len(values):
            found |= dict(zip(wanted, np.quantile(values, list(wanted.values())).tolist(), strict=True))
    return found


def wanted_quantiles() -> dict[str, dict[str, float]]:
    """Return the metrics that are quantiles, by quantity: name and share of each."""
    found: dict[str, dict[str, float]] = {}
    for each in METRICS:
        if each.windowed and each.statistic.startswith("p") and each.statistic[1:].isdigit():
            found.setdefault(each.quantity, {})[each.name] = int(each.statistic[1:]) / 100
    return found


def run_totals(
    arrival_s: Floats, output_tokens: Ints, outcome: Outcome, requests: RequestMetrics, slo: Slo | None
) -> dict[str, float]:
    """Return the metrics of the whole run, warm-up included; NaN where undefined."""
    return rates(totals(arrival_s, output_tokens, outcome, requests, slo), outcome)


@dataclass(frozen=True, slots=True)
class Totals:
    """What the metrics of the whole run are made of; those of parts add up. `good`: who met the SLO; NaN without one.

    Times are those of the first and last arrival and of the last to finish; infinite where there is none.
    """

    arrivals: int = 0
    finished: int = 0
    output_tokens: int = 0
    good: float = 0.0
    preemptions: int = 0
    recomputed_tokens: int = 0
    first_s: float = math.inf
    last_s: float = -math.inf
    finished_s: float = -math.inf

    def __add__(self, other: Totals) -> Totals:
        sums = ("arrivals", "finished", "output_tokens", "good", "preemptions", "recomputed_tokens")
        return Totals(
            **{name: getattr(self, name) + getattr(other, name) for name in sums},
            first_s=min(self.first_s, other.first_s),
            last_s=max(self.last_s, other.last_s),
            finished_s=max(self.finished_s, other.finished_s),
        )


def totals(
    arrival_s: Floats, output_tokens: Ints, outcome: Outcome, requests: RequestMetrics, slo: Slo | None
) -> Totals:
    """Add up some requests."""
    finished = outcome.status == FINISHED
    return Totals(
        arrivals=len(arrival_s),
        finished=int(finished.sum()),
        output_tokens=int(output_tokens[finished].sum()),
        good=float(slo.met(requests).sum()) if slo else math.nan,
        preemptions=int(outcome.preemptions.sum()),
        recomputed_tokens=int(outcome.recomputed_tokens.sum()),
        first_s=float(arrival_s.min(initial=math.inf)),
        last_s=float(arrival_s.max(initial=-math.inf)),
        finished_s=float(outcome.finished_s[finished].max(initial=-math.inf)),
    )


def rates(total: Totals, outcome: Outcome) -> dict[str, float]:
    """Return the metrics of the whole run; `outcome` for what only the whole has."""
    horizon_s = total.finished_s - total.first_s if total.finished else math.nan
    return {
        "throughput_rps": _over(total.finished, horizon_s),
        "throughput_tokens_per_s": _over(total.output_tokens, horizon_s),
        "goodput_rps": _over(total.good, horizon_s),
        "goodput_fraction": _over(total.good, total.arrivals),
        "preemptions_per_request": _over(total.preemptions, total.arrivals),
        "recomputed_tokens": float(total.recomputed_tokens),
        "offered_rps": _over(total.arrivals, total.last_s - total.first_s if total.arrivals else math.nan),
        "horizon_s": horizon_s,
        "steps": float(outcome.steps),
        "lookups_beyond_fraction": _over(outcome.lookups_beyond, outcome.lookups),
    }


def histogram(jct_s: Floats) -> Longs:
    """Count JCTs in bins of a tenth of a decade: int64 [BINS]."""
    position = (np.log10(np.maximum(jct_s, 1e-12)) - BINS_FROM) * BINS_PER_DECADE
    return np.bincount(np.clip(position, 0, BINS - 1).astype(np.int64), minlength=BINS)


def _ratios(requests: RequestMetrics, outcome: Outcome, window: Flags) -> Iterator[tuple[str, Floats, Floats]]:
    """Yield the name, numerators and denominators of each mean, over the requests of the window."""
    plain = {
        "jct_mean_s": requests.jct_s,
        "ttft_mean_s": requests.ttft_s,
        "tpot_mean_s": requests.tpot_s,
        "queue_mean_s": requests.queue_s,
        "slowdown_mean": requests.slowdown,
        "acceptance_length_mean": requests.acceptance_length,
    }
    for name, values in plain.items():
        measured = values[window]
        known = np.isfinite(measured)
        yield name, np.where(known, measured, 0.0), known.astype(np.float64)
    rounds = outcome.rounds[window].astype(np.float64)
    decode_s = (outcome.finished_s - outcome.first_token_s)[window]
    yield "itl_mean_s", np.where(rounds > 0, decode_s, 0.0), rounds
    yield "acceptance_length_pooled", rounds + outcome.accepted_tokens[window], rounds


def _adding_up(block: Longs, blocks: int) -> Callable[[Floats], Floats]:
    """Return what adds up values per block: blocks follow each other."""
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    there = block[starts]

    def add_up(values: Floats) -> Floats:
        sums = np.zeros(blocks)
        if len(starts):
            sums[there] = np.add.reduceat(values, starts)
        return sums

    return add_up


def _over(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else math.nan
