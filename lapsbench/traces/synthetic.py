"""Generates traces from a recipe of a few figures: rate, burstiness, length quantiles, rank correlation, clients.

Knows no recorded rows; `recipes` holds figures measured from public traces.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import TOKENS_MOST, Trace
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.streams import stream
from lapsbench.traces.figures import PROBABILITIES

if TYPE_CHECKING:
    from lapsbench.core import Floats, Ints, Longs, Strings

_ARRIVAL_DECIMALS = 6  # microseconds: as fine as the traces the figures are from, and half the file


@dataclass(frozen=True, slots=True)
class Pauses:
    """Silences between bursts: this share of the gaps, and of the time, with a CV of their own."""

    gap_share: float
    time_share: float
    cv: float


@dataclass(frozen=True, slots=True)
class Drift:
    """A slowly wandering rate: lognormal with this log-sigma, redrawn after exponential times of this mean."""

    sigma: float
    mean_s: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to generate.

    Attributes:
        rate_rps: requests / span, met to the microsecond.
        gap_cv: CV of the gaps between arrivals (gamma renewal), pauses and drift not counted.
        prompt_quantiles, output_quantiles: tokens at `figures.PROBABILITIES`, log-linear between.
        rank_correlation: Spearman's, of prompt and output tokens, by a Gaussian copula.
        clients, client_skew: client k of 1..clients sends a share proportional to k ** -client_skew.
        source: where the figures are from, for people.
    """

    name: str
    rate_rps: float
    gap_cv: float
    prompt_quantiles: tuple[float, ...]
    output_quantiles: tuple[float, ...]
    rank_correlation: float = 0.0
    pauses: Pauses | None = None
    drift: Drift | None = None
    clients: int = 20
    client_skew: float = 1.0
    source: str = ""

    @property
    def cv(self) -> float:
        """Inter-arrival CV of the whole: the moments of the mixture of gaps, times those of the drifting rate."""
        square = 1 + self.gap_cv**2
        if self.pauses:
            gaps, time = self.pauses.gap_share, self.pauses.time_share
            square *= (1 - time) ** 2 / (1 - gaps)
            square += time**2 / gaps * (1 + self.pauses.cv**2)
        # a gap seen by an arrival: E[rate] E[1 / rate] = exp(sigma^2)
        return math.sqrt(square * math.exp(self.drift.sigma**2 if self.drift else 0.0) - 1)


def generate(recipe: Recipe, n: int, seed: int) -> Trace:
    """Generate `n` requests; same recipe, n and seed, same trace.

    Lengths are stratified: at every n the quantiles are met, and seeds differ only in who gets which.

    Raises:
        UsageError: n or seed is out of range, or figures that fit no trace.
        LapsbenchError: the gaps are too bursty for float64, all arrivals coincide.
    """
    if n < 1:
        raise UsageError(f"{n} requests are none", where=f"recipe {recipe.name!r}", hint="1 or more")
    _check(recipe)
    prompt_tokens, output_tokens = _lengths(recipe, n, seed)
    return Trace(
        name=recipe.name,
        arrival_s=_arrivals(recipe, n, seed),
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        client_id=_clients(recipe, n, seed),
        provenance={"label": "generated, not recorded", "recipe": asdict(recipe), "requests": n, "seed": seed},
    )


def _arrivals(recipe: Recipe, n: int, seed: int) -> Floats:
    """Return float64 [n], seconds: a renewal process in its own time, stretched by the drift, scaled to the rate."""
    work = np.concatenate([[0.0], np.cumsum(_gaps(recipe, n - 1, seed))])
    if n == 1:
        return work
    arrival_s = _drifted(recipe.drift, work, seed) if recipe.drift else work
    if not arrival_s[-1] > 0:
        raise LapsbenchError("all arrivals coincide", where=f"recipe {recipe.name!r}", hint="a lower CV, or more rows")
    scaled_s: Floats = np.round(arrival_s * (n / recipe.rate_rps / arrival_s[-1]), _ARRIVAL_DECIMALS)
    return scaled_s


def _gaps(recipe: Recipe, count: int, seed: int) -> Floats:
    mean_s = 1 / recipe.rate_rps
    if not recipe.pauses:
        return _gamma(mean_s, recipe.gap_cv, count, stream(seed, "trace gaps"))
    pauses = recipe.pauses
    burst_mean_s = mean_s * (1 - pauses.time_share) / (1 - pauses.gap_share)
    pause_mean_s = mean_s * pauses.time_share / pauses.gap_share
    bursts = _gamma(burst_mean_s, recipe.gap_cv, count, stream(seed, "trace gaps"))
    silences = _gamma(pause_mean_s, pauses.cv, count, stream(seed, "trace pauses"))
    return np.where(stream(seed, "trace pause or not").random(count) < pauses.gap_share, silences, bursts)


def _gamma(mean_s: float, cv: float, count: int, draw: np.random.Generator) -> Floats:
    if cv == 0:
        return np.full(count, mean_s)
    return draw.gamma(cv**-2, mean_s * cv**2, count)


def _drifted(drift: Drift, work: Floats, seed: int) -> Floats:
    """Return the times at which the integral of the rate, mean 1, reaches `work`."""
    sigma, mean_s = drift.sigma, drift.mean_s
    draw = stream(seed, "trace drift")
    # enough epochs for the work; the last goes on for as long as it takes
    epochs = 2 * math.ceil(work[-1] / mean_s) + 32
    seconds = draw.exponential(mean_s, epochs)
    rate = np.exp(draw.normal(-(sigma**2) / 2, sigma, epochs))
    seconds[-1] = max(seconds[-1], work[-1] / rate[-1])
    knots_s = np.concatenate([[0.0], np.cumsum(seconds)])
    done = np.concatenate([[0.0], np.cumsum(seconds * rate)])
    times_s: Floats = np.interp(work, done, knots_s)
    return times_s


def _lengths(recipe: Recipe, n: int, seed: int) -> tuple[Ints, Ints]:
    """Return prompt and output tokens, int32 [n] each."""
    draw = stream(seed, "trace lengths")
    # Pearson's r of the normals that gives this Spearman's rho (Pearson 1907)
    r = 2 * math.sin(math.pi * recipe.rank_correlation / 6)
    prompt = draw.standard_normal(n)
    output = r * prompt + math.sqrt(max(0.0, 1 - r * r)) * draw.standard_normal(n)
    return _tokens(prompt, recipe.prompt_quantiles), _tokens(output, recipe.output_quantiles)


def _tokens(draws: Floats, quantiles: tuple[float, ...]) -> Ints:
    """Return int32 [n]: the draw of rank i becomes the quantile at (i + 1/2) / n."""
    rank = np.empty(len(draws))
    rank[np.argsort(draws, kind="stable")] = np.arange(len(draws))
    logs = np.interp((rank + 0.5) / len(draws), PROBABILITIES, np.log(quantiles))
    return np.rint(np.exp(logs)).astype(np.int32)


def _clients(recipe: Recipe, n: int, seed: int) -> Strings:
    weight = np.arange(1, recipe.clients + 1, dtype=np.float64) ** -recipe.client_skew
    names = np.array([f"client-{k:02d}" for k in range(1, recipe.clients + 1)], dtype=object)
    sender: Longs = stream(seed, "trace clients").choice(recipe.clients, n, p=weight / weight.sum())
    return names[sender]


def _check(recipe: Recipe) -> None:
    wrong = [what for what, holds in _requirements(recipe) if not holds]
    if wrong:
        raise UsageError(f"needs {' and '.join(wrong)}", where=f"recipe {recipe.name!r}", hint="the figures of CHAT")


def _requirements(recipe: Recipe) -> list[tuple[str, bool]]:
    pauses, drift = recipe.pauses, recipe.drift
    lengths = [np.array(table, float) for table in (recipe.prompt_quantiles, recipe.output_quantiles)]
    return [
        ("a finite rate above 0", math.isfinite(recipe.rate_rps) and recipe.rate_rps > 0),
        ("a gap CV from 0 to 100", 0 <= recipe.gap_cv <= 100),
        ("a rank correlation from -1 to 1", -1 <= recipe.rank_correlation <= 1),
        (f"{len(PROBABILITIES)} quantiles per length", all(len(table) == len(PROBABILITIES) for table in lengths)),
        (
            f"quantiles that rise from 1 token to {TOKENS_MOST:,}",
            all(
                (table >= 1).all() and (table <= TOKENS_MOST).all() and (np.diff(table) >= 0).all() for table in lengths
            ),
        ),
        ("pause shares between 0 and 1", not pauses or (0 < pauses.gap_share < 1 and 0 < pauses.time_share < 1)),
        ("a pause CV from 0 to 100", not pauses or 0 <= pauses.cv <= 100),
        ("a drift of sigma 0 to 3 and a mean above 0 s", not drift or (0 <= drift.sigma <= 3 and drift.mean_s > 0)),
        ("1 or more clients", recipe.clients >= 1 and math.isfinite(recipe.client_skew)),
    ]
