"""Step logs as a table: a row a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from lapsbench.core import Floats
    from lapsbench.metrics.steps import StepSummary
    from lapsbench.store.steps import Steps


def heading(log: Steps) -> str:
    """Say in one line what wrote a log, and under which policy."""
    header = log.header
    engine = f"{header['engine']} {header['rules_version']}"
    settings = [
        f"{name.replace('_', ' ')} {header[name]}"
        for name in ("max_batch", "draft_tokens", "batched_tokens", "kv_tokens")
        if name in header
    ]
    return ", ".join([f"{engine}: {header['policy']}", str(header["on_preempt"]), *settings])


def row(name: str, found: StepSummary) -> dict[str, Any]:
    """Return a log's row."""
    times = found.latencies
    return {
        "log": name,
        "requests": found.requests,
        "finished": found.finished,
        "aborted": found.aborted,
        "rejected": found.rejected,
        "TTFT s": _mean(times.ttft_s),
        "p99": _p99(times.ttft_s),
        "JCT s": _mean(times.jct_s),
        "p99 ": _p99(times.jct_s),
        "TPOT ms": _mean(1000.0 * times.tpot_s),
        "steps": found.steps,
        "batch": round(found.mean_batch, 2),
        "mixed %": round(100.0 * found.mixed, 1),
        "preempted": found.preemptions,
    }


def _mean(values: Floats) -> float | None:
    return float(f"{values.mean():.4g}") if len(values) else None


def _p99(values: Floats) -> float | None:
    return float(f"{np.quantile(values, 0.99):.4g}") if len(values) else None
