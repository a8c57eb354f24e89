"""From per-request values to the numbers of a cell: means, quantiles, run totals, block sums, histogram."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import FINISHED
from lapsbench.metrics.catalog import METRICS
from lapsbench.metrics.intervals import Sums

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    block, blocks = _blocks(window, warmup)
    found = {}
    for name, top, bottom in _ratios(requests, outcome, window):
        total = float(bottom.sum())
        if total > 0:
            sums = Sums(_add_up(block, top, blocks), _add_up(block, bottom, blocks))
            found[name] = float(top.sum()) / total, sums
    return found


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


def _blocks(window: Flags, warmup: int) -> tuple[Longs, int]:
    """Return the block of each request of the window, and how many blocks there are."""
    measured = max(len(window) - warmup, 1)
    blocks = min(BLOCKS, measured // FEWEST_PER_BLOCK)
    blocks = blocks if blocks >= FEWEST_BLOCKS else 1
    return (np.flatnonzero(window) - warmup) * blocks // measured, blocks


def quantiles(requests: RequestMetrics, window: Flags) -> dict[str, float]:
    """Return every metric that is a quantile, by linear interpolation."""
    found: dict[str, float] = {}
    for quantity in dict.fromkeys(metric.quantity for metric in METRICS if metric.windowed):
        wanted = [each for each in METRICS if each.quantity == quantity and each.statistic.startswith("p")]
        wanted = [each for each in wanted if each.statistic[1:].isdigit()]
        values: Floats = getattr(requests, quantity)[window] if wanted else np.empty(0)
        values = values[np.isfinite(values)]
        if len(values):
            shares = [int(each.statistic[1:]) / 100 for each in wanted]
            found |= dict(zip((each.name for each in wanted), np.quantile(values, shares).tolist(), strict=True))
    return found


def run_totals(
    arrival_s: Floats, output_tokens: Ints, outcome: Outcome, requests: RequestMetrics, slo: Slo | None
) -> dict[str, float]:
    """Return the metrics of the whole run, warm-up included; NaN where undefined."""
    count = len(arrival_s)
    finished = outcome.status == FINISHED
    horizon_s = float(outcome.finished_s[finished].max() - arrival_s.min()) if finished.any() else math.nan
    good = float(slo.met(requests).sum()) if slo else math.nan
    return {
        "throughput_rps": _over(float(finished.sum()), horizon_s),
        "throughput_tokens_per_s": _over(float(output_tokens[finished].sum()), horizon_s),
        "goodput_rps": _over(good, horizon_s),
        "goodput_fraction": _over(good, count),
        "preemptions_per_request": _over(float(outcome.preemptions.sum()), count),
        "recomputed_tokens": float(outcome.recomputed_tokens.sum()),
        "offered_rps": _over(count, float(np.ptp(arrival_s)) if count else math.nan),
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
        known = np.isfinite(values[window])
        yield name, np.where(known, values[window], 0.0), known.astype(np.float64)
    rounds = outcome.rounds[window].astype(np.float64)
    decode_s = (outcome.finished_s - outcome.first_token_s)[window]
    yield "itl_mean_s", np.where(rounds > 0, decode_s, 0.0), rounds
    yield "acceptance_length_pooled", rounds + outcome.accepted_tokens[window], rounds


def _add_up(block: Longs, values: Floats, blocks: int) -> Floats:
    return np.bincount(block, values, blocks).astype(np.float64)


def _over(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else math.nan
