"""Predict output lengths once for a whole trace, so that every policy sorts by the same guesses.

A prediction is all a policy ever learns of a length beforehand. `classes` redraws the errors of a real predictor:
the BERT proxy of SSJF (arXiv 2404.08509) on vicuna-13b, 85,482 answers of multi-round LMSYS-Chat-1M, from
github.com/James-QiuHaoran/LLM-serving-with-proxy-models (Apache-2.0). Its answers end at 511 tokens, so for longer
outputs these are the errors it makes on its longest class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.streams import stream

if TYPE_CHECKING:
    from lapsbench.core import Floats, Ints

CLASS_LIMITS = (58, 147, 280, 499)
"""Tokens at which length classes 1, 2, 3 and 4 begin: SSJF's, the quartiles and 99th percentile of its data."""
BAND_LIMITS = (15, 30, 58, 100, 147, 210, 280, 390, 499)
"""The class limits and one more inside each class but the last. With one row of errors per class, an answer of 150
tokens would be taken for a long one as often as one of 270, and redrawn predictions order the data worse (Kendall
.59) than the predictor did (.64); with these bands .62; twice as many gain no more than .004."""
CONFUSION = (
    (8852, 664, 161, 83, 30),
    (5211, 1285, 221, 131, 30),
    (4562, 3586, 598, 320, 68),
    (1347, 5889, 1434, 628, 86),
    (643, 4201, 2686, 905, 98),
    (343, 2492, 4103, 1573, 155),
    (219, 1509, 4479, 3292, 217),
    (199, 1196, 4298, 7770, 626),
    (102, 456, 1666, 5150, 864),
    (17, 58, 176, 558, 245),
)
"""Answers of each band of true length (row) that SSJF put in each class (column): right for 59 %."""
MEAN_TOKENS = (35.64, 120.88, 228.19, 314.27, 342.11)
"""Mean true length of the answers put in each class. What SSJF calls class 4 is mostly shorter than 499 tokens."""

KNOWN = {
    "oracle": "the true length",
    "noisy": "the true length times lognormal noise, noisy:sigma=0.5",
    "classes": "SSJF's five classes with its real errors",
    "none": "the mean of the trace for everyone",
    "trace": "the trace's own predicted_tokens",
}


@dataclass(frozen=True, slots=True)
class Predictor:
    """Where predicted lengths come from; `sigma` is that of `noisy`, about the logarithm of the length."""

    name: str
    sigma: float = 0.0

    @property
    def label(self) -> str:
        """As typed on the command line."""
        return f"noisy:sigma={self.sigma:g}" if self.name == "noisy" else self.name


def parse_predictor(text: str) -> Predictor:
    """Return the predictor written as `name` or `name:key=value`.

    Raises:
        UsageError: no predictor or parameter of that name, or a value it cannot take.
    """
    name, _, parameters = text.strip().partition(":")
    if name not in KNOWN:
        known = ", ".join(f"{key} ({what})" for key, what in KNOWN.items())
        raise UsageError(f"no predictor is called {name!r}", where="--predict", hint=f"one of: {known}")
    sigma = 0.5 if name == "noisy" else 0.0
    for parameter in filter(None, parameters.split(",")):
        key, _, value = parameter.partition("=")
        if name != "noisy" or key.strip() != "sigma":
            takes = "sigma, as in noisy:sigma=0.5" if name == "noisy" else f"{name} alone: it takes none"
            raise UsageError(f"{name} has no parameter {key.strip()!r}", where="--predict", hint=takes)
        sigma = _sigma(value)
    return Predictor(name, sigma)


def predict(
    predictor: Predictor, output_tokens: Ints, seed: int, *, given: Floats | None = None
) -> tuple[Floats, Ints]:
    """Return predicted_tokens float64 [N], at least 1, and predicted_class int32 [N], their class of `CLASS_LIMITS`.

    Args:
        predictor: from `parse_predictor`.
        output_tokens: true lengths.
        seed: of the trial; one seed gives one draw, whichever policy asks.
        given: the trace's own predictions; only `trace` reads them.

    Raises:
        LapsbenchError: `trace` is asked for and the trace has no usable predicted_tokens.
    """
    true_tokens = output_tokens.astype(np.float64)
    if predictor.name == "trace":
        predicted = _given(given)
    elif predictor.name == "noisy":
        noise = stream(seed, "predict/noisy").standard_normal(len(true_tokens))
        predicted = true_tokens * np.exp(predictor.sigma * noise)
    elif predictor.name == "classes":
        predicted = np.array(MEAN_TOKENS)[_confused(output_tokens, seed)]
    elif predictor.name == "none":
        predicted = np.full(len(true_tokens), true_tokens.mean() if len(true_tokens) else 1.0)
    else:
        predicted = true_tokens
    predicted = np.maximum(predicted, 1.0)
    return predicted, length_class(predicted)


def length_class(tokens: Floats | Ints) -> Ints:
    """Return the class of each length, 0 (short) .. 4 (long)."""
    return np.searchsorted(CLASS_LIMITS, tokens, side="right").astype(np.int32)


def _confused(output_tokens: Ints, seed: int) -> Ints:
    """Draw the class SSJF would have predicted, from the row of each true length."""
    up_to = np.cumsum(CONFUSION, axis=1) / np.sum(CONFUSION, axis=1, keepdims=True)
    draws = stream(seed, "predict/classes").random(len(output_tokens))
    band = np.searchsorted(BAND_LIMITS, output_tokens, side="right")
    passed = draws[:, None] >= up_to[band]
    return np.asarray(passed.sum(axis=1), dtype=np.int32)


def _given(given: Floats | None) -> Floats:
    if given is None:
        raise LapsbenchError(
            "the trace has no column predicted_tokens", where="--predict trace", hint="another predictor"
        )
    unusable = ~(np.isfinite(given) & (given > 0))
    if np.any(unusable):
        row = int(np.argmax(unusable))
        where = f"column predicted_tokens, row {row + 1}"
        raise LapsbenchError(f"{given[row]} is not a length", where=where, hint="a positive number of tokens")
    return given


def _sigma(text: str) -> float:
    try:
        sigma = float(text)
    except ValueError:
        sigma = math.nan
    if not 0 <= sigma <= 10:
        raise UsageError(
            f"sigma = {text.strip()!r}", where="--predict noisy", hint="a number from 0 to 10, such as 0.5"
        )
    return sigma
