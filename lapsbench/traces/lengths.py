"""Lengths by name: `lognormal:median=800,sigma=1`, `quantiles:16,120,400,900,8000`, `resample:PATH`.

Quantiles are evenly spaced from the least to the most, log-linear between them.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import TOKENS_MOST
from lapsbench.errors import UsageError
from lapsbench.streams import stream
from lapsbench.traces.open import open_trace
from lapsbench.traces.processes import parse_spec

if TYPE_CHECKING:
    from lapsbench.core import Floats, Ints

_LOGNORMAL = MappingProxyType({"lognormal": {"median": math.nan, "sigma": 1.0, "most": float(TOKENS_MOST)}})
_EXAMPLES = "lognormal:median=800,sigma=1, quantiles:16,120,400,900,8000 or resample:PATH"


def lengths(spec: str, column: str, n: int, seed: int) -> Ints:
    """Return int32 [n] tokens.

    Args:
        spec: what to draw from.
        column: "prompt" or "output", the flag and the stream; of a resampled trace, its tokens of that kind.
        n: how many.
        seed: of the draws.

    Raises:
        UsageError: a name or parameter that means nothing.
        LapsbenchError: the trace to resample cannot be read.
    """
    flag, kind, rest = f"--{column}", *spec.partition(":")[::2]
    draw = stream(seed, f"trace {column} lengths")
    if kind == "quantiles":
        return _tokens(np.exp(_interpolated(rest, flag, draw.random(n))))
    if kind == "resample":
        trace = open_trace(rest, arrivals=False)
        source = trace.prompt_tokens if column == "prompt" else trace.output_tokens
        return source[draw.integers(0, len(source), n)]
    _, values = parse_spec(spec, _LOGNORMAL, flag, _EXAMPLES)
    median, sigma, most = values["median"], values["sigma"], values["most"]
    if not (1 <= median <= TOKENS_MOST and 0 <= sigma <= 10 and 1 <= most <= TOKENS_MOST):
        what = f"median = {median:g}, sigma = {sigma:g}, most = {most:g}"
        raise UsageError(what, where=flag, hint="a median of 1 token or more, a sigma of 0 to 10")
    return _tokens(np.minimum(median * np.exp(sigma * draw.standard_normal(n)), most))


def _interpolated(text: str, flag: str, shares: Floats) -> Floats:
    try:
        values = np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise UsageError(f"{text!r} is not a list of numbers", where=flag, hint=_EXAMPLES) from None
    if len(values) < 2 or not np.all((values >= 1) & (values <= TOKENS_MOST)) or np.any(np.diff(values) < 0):
        raise UsageError("needs two or more quantiles that rise from 1 token on", where=flag, hint=_EXAMPLES)
    logs: Floats = np.interp(shares, np.linspace(0, 1, len(values)), np.log(values))
    return logs


def _tokens(values: Floats) -> Ints:
    return np.rint(np.clip(values, 1, TOKENS_MOST)).astype(np.int32)
