"""Measures a trace: the figures a recipe is made of, and that a description shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lapsbench.traces.over_time import AT_ONCE_S

if TYPE_CHECKING:
    from lapsbench.core import Ints, Trace

PROBABILITIES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
"""Where every table of quantiles is taken."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a trace looks like, without its rows.

    Attributes:
        rate_rps: requests / span; None where all arrive at once.
        gap_cv: standard deviation over mean of the gaps between arrivals; None as rate_rps.
        prompt_quantiles, output_quantiles: tokens at `PROBABILITIES`, linear between ranks.
        rank_correlation: Spearman's, of prompt and output tokens; None where either is constant.
    """

    requests: int
    rate_rps: float | None
    gap_cv: float | None
    prompt_quantiles: tuple[float, ...]
    output_quantiles: tuple[float, ...]
    rank_correlation: float | None


def figures(trace: Trace) -> Figures:
    """Measure a trace of at least one request."""
    gaps_s = np.diff(trace.arrival_s)
    lasts = trace.span_s >= AT_ONCE_S
    return Figures(
        requests=len(trace),
        rate_rps=trace.rate_rps if lasts else None,
        gap_cv=float(gaps_s.std() / gaps_s.mean()) if lasts else None,
        prompt_quantiles=_quantiles(trace.prompt_tokens),
        output_quantiles=_quantiles(trace.output_tokens),
        rank_correlation=_rank_correlation(trace.prompt_tokens, trace.output_tokens),
    )


def _quantiles(tokens: Ints) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(tokens, PROBABILITIES))


def _rank_correlation(left: Ints, right: Ints) -> float | None:
    ranks = [pl.Series(values).rank("average").to_numpy() for values in (left, right)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
