"""Arrival processes by name: `poisson`, `gamma:cv=3`, `on-off:on=10,off=20`, `diurnal:period=86400,depth=0.8`.

Every one is met in its rate: requests / span. Poisson and gamma are renewal processes; in the other two, a Poisson
process runs on a clock of its own, which goes as fast as the rate of the moment.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.streams import stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lapsbench.core import Floats

DECIMALS = 6
KNOTS_PER_PERIOD = 256
MOST_PERIODS = 100_000
_DEFAULTS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "poisson": {},
        "gamma": {"cv": 1.0},
        "on-off": {"on": 10.0, "off": 20.0, "floor": 0.0},
        "diurnal": {"period": 86_400.0, "depth": 0.8},
    }
)
"""Parameters of each process: `cv` of the gaps; mean seconds on and off, and the share of the mean rate that stays
when off; seconds of a period, and how far the rate swings as a share of its mean, from the trough on."""
_EXAMPLES = "poisson, gamma:cv=3, on-off:on=10,off=20,floor=0.1 or diurnal:period=86400,depth=0.8"


def arrivals(spec: str, n: int, rate_rps: float, seed: int) -> Floats:
    """Return float64 [n], seconds from 0, not decreasing; requests / span is `rate_rps`.

    Raises:
        UsageError: no such process, or parameters that mean nothing.
        LapsbenchError: so bursty that all arrivals coincide.
    """
    name, values = parse_spec(spec, _DEFAULTS, "--arrivals", _EXAMPLES)
    span_s = n / rate_rps
    if n == 1:
        return np.zeros(1)
    unit = stream(seed, "trace gaps")
    _refuse_absurd(name, values)
    if name == "gamma":
        gaps = unit.gamma(values["cv"] ** -2, size=n - 1) if values["cv"] else np.ones(n - 1)
        times_s = _from_zero(gaps)
    else:
        times_s = _from_zero(unit.exponential(size=n - 1))
        if name != "poisson" and times_s[-1] > 0:
            knots_s, work = _clock(name, values, span_s, seed)
            # as much work as is done within the span
            end = np.interp(span_s, knots_s, work)
            times_s = np.interp(times_s * (end / times_s[-1]), work, knots_s)
    if not times_s[-1] > 0:
        raise LapsbenchError("all arrivals coincide", where=f"--arrivals {spec}", hint="less bursts, or more requests")
    met_s: Floats = np.round(times_s * (span_s / times_s[-1]), DECIMALS)
    return met_s


def parse_spec(
    spec: str, defaults: Mapping[str, Mapping[str, float]], flag: str, examples: str
) -> tuple[str, dict[str, float]]:
    """Read NAME:KEY=VALUE,... over the defaults of that name.

    Raises:
        UsageError: a name or key that means nothing, or a value that is no finite number.
    """
    name, _, rest = spec.partition(":")
    if name not in defaults:
        raise UsageError(f"unknown {name!r}", where=flag, hint=examples)
    values = dict(defaults[name])
    for part in filter(None, rest.split(",")):
        key, _, text = (piece.strip() for piece in part.partition("="))
        if key not in values:
            known = ", ".join(values) or "none"
            raise UsageError(f"{name} has no parameter {key!r}; it has {known}", where=flag, hint=examples)
        try:
            values[key] = float(text)
        except ValueError:
            raise UsageError(f"{key} = {text!r} is not a number", where=flag, hint=examples) from None
        if not math.isfinite(values[key]):
            raise UsageError(f"{key} = {text} is not finite", where=flag, hint=examples)
    return name, values


def _refuse_absurd(name: str, values: Mapping[str, float]) -> None:
    limits = {
        "cv": (0, 100),
        "on": (1e-3, 1e9),
        "off": (1e-3, 1e9),
        "floor": (0, 1),
        "period": (1, 1e9),
        "depth": (0, 1),
    }
    for key, value in values.items():
        low, high = limits[key]
        if not low <= value <= high:
            raise UsageError(f"{name}: {key} = {value:g}", where="--arrivals", hint=f"{low:g} to {high:g}")


def _few(periods: int, name: str) -> int:
    if periods > MOST_PERIODS:
        what = f"{name}: {periods:,} periods within the trace"
        raise UsageError(what, where="--arrivals", hint=f"longer ones: at most {MOST_PERIODS:,}")
    return periods


def _from_zero(gaps: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(gaps)])


def _clock(name: str, values: Mapping[str, float], span_s: float, seed: int) -> tuple[Floats, Floats]:
    """Return times of the wall, and how far the process's own clock has come at each; mean speed about 1."""
    if name == "diurnal":
        period_s, depth = values["period"], values["depth"]
        periods = _few(math.ceil(span_s / period_s), name) + 1
        knots_s = np.arange(periods * KNOTS_PER_PERIOD + 1, dtype=np.float64) * (period_s / KNOTS_PER_PERIOD)
        angle = 2 * np.pi * knots_s / period_s
        own: Floats = knots_s - depth * period_s / (2 * np.pi) * np.sin(angle)
        return knots_s, own
    on_s, off_s, floor = values["on"], values["off"], values["floor"]
    pairs = 2 * _few(math.ceil(span_s / (on_s + off_s)), name) + 32
    draw = stream(seed, "trace on and off")
    seconds = np.empty(2 * pairs)
    seconds[0::2] = draw.exponential(on_s, pairs)
    seconds[1::2] = draw.exponential(off_s, pairs)
    busy = (1 - floor * off_s / (on_s + off_s)) * (on_s + off_s) / on_s
    speed = np.tile(np.array([busy, floor], dtype=np.float64), pairs)
    return _from_zero(seconds), _from_zero(seconds * speed)
