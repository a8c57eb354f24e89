"""The list of metrics: name, what it is a statistic of, which way is better, over which requests."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a cell.

    Attributes:
        name: key in `CellSummary.metrics` and in `--json`; carries its unit.
        quantity, statistic: the same name as two columns of summary.parquet.
        better: which way is better, if either.
        windowed: whether only finished requests after the warm-up cut count; else the whole run does.
    """

    name: str
    quantity: str
    statistic: str
    better: Better
    windowed: bool


def _latency(stem: str, *statistics: str, unit: str = "_s") -> tuple[Metric, ...]:
    return tuple(Metric(f"{stem}_{each}{unit}", f"{stem}{unit}", each, "lower", windowed=True) for each in statistics)


def _run(name: str, better: Better = "neither") -> Metric:
    return Metric(name, name, "value", better, windowed=False)


METRICS: tuple[Metric, ...] = (
    *_latency("jct", "mean", "p50", "p90", "p99"),
    *_latency("ttft", "mean", "p50", "p99"),
    *_latency("tpot", "mean", "p50", "p99"),
    *_latency("itl", "mean"),
    *_latency("itl_max", "p99"),
    *_latency("queue", "mean", "p99"),
    *_latency("slowdown", "mean", "p99", unit=""),
    Metric("acceptance_length_pooled", "acceptance_length", "pooled", "neither", windowed=True),
    Metric("acceptance_length_mean", "acceptance_length", "mean", "neither", windowed=True),
    _run("throughput_rps", "higher"),
    _run("throughput_tokens_per_s", "higher"),
    _run("goodput_rps", "higher"),
    _run("goodput_fraction", "higher"),
    _run("preemptions_per_request", "lower"),
    _run("recomputed_tokens", "lower"),
    _run("offered_rps"),
    _run("horizon_s"),
    _run("steps"),
    _run("lookups_beyond_fraction"),
)

BY_NAME = MappingProxyType({metric.name: metric for metric in METRICS})
