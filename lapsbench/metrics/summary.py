"""What is kept of one cell (policy, load, seed), and how it is made.

Small on purpose: a million requests leave a few kilobytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import FINISHED, REJECTED, STATUS, TALLY, UNFINISHED
from lapsbench.errors import LapsbenchError
from lapsbench.metrics import statistics
from lapsbench.metrics.catalog import METRICS
from lapsbench.metrics.definitions import request_metrics
from lapsbench.metrics.recomputing import Recomputing, recomputing
from lapsbench.metrics.saturation import Saturation, saturation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lapsbench.core import Floats, Ints, Longs, Outcome
    from lapsbench.metrics.definitions import RequestMetrics
    from lapsbench.metrics.intervals import Sums
    from lapsbench.metrics.slo import Slo


@dataclass(frozen=True, slots=True)
class CellSummary:
    """One policy at one load with one seed.

    Attributes:
        policy: name as typed, without the oracle's asterisk; `label` wears it.
        load: None where the trace kept its own clock, or `--rate` set it.
        measured: finished requests after the warm-up cut, the base of latency statistics.
        warmup: how many of the first arrivals were cut.
        metrics: every name of `catalog.METRICS`, in that order; None where undefined.
        blocks: for metrics that are ratios of sums, their parts per block of measured arrivals; the same requests
            under every policy.
        jct_histogram: int64 [statistics.BINS], measured requests.
        saturation: None where the run is too short to judge.
        recomputing: what was computed again after preemption; None where prompts are not known.
        bounds: of an oracle: what it bounds, and where; "" if nothing.
        stopped: why the run ended early, or "".
        approximate: quantiles are within `sketch.ERROR` of what they would be.
        by_batch, by_drafts_s: of drafts, by how many requests draft together, as in `core.Outcome`.
    """

    policy: str
    oracle: bool
    load: float | None
    seed: int
    arrivals: int
    finished: int
    rejected: int
    unfinished: int
    measured: int
    warmup: int
    metrics: Mapping[str, float | None]
    blocks: Mapping[str, Sums]
    jct_histogram: Longs
    saturation: Saturation | None
    stopped: str = ""
    recomputing: Recomputing | None = None
    bounds: str = ""
    approximate: bool = False
    by_batch: Floats = field(default_factory=lambda: np.zeros((0, len(TALLY))))
    by_drafts_s: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def label(self) -> str:
        """The name people see."""
        return f"{self.policy}*" if self.oracle else self.policy


def summarize(
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
    prompt_tokens: Ints | None = None,
) -> CellSummary:
    """Boil one cell down; the fields of `CellSummary` say what is what.

    `warmup` comes from `warmup_cut` and is the same for every policy of this load and seed.

    Raises:
        LapsbenchError: requests got lost, or took no time, which only a defect in the simulator can do.
    """
    counts = conserved(policy, len(arrival_s), outcome)
    requests = request_metrics(arrival_s, output_tokens, outcome)
    in_time(policy, requests, outcome)
    window = requests.finished & (np.arange(len(arrival_s)) >= warmup)
    means = statistics.means(requests, outcome, window, warmup)
    values = {
        **{name: value for name, (value, _) in means.items()},
        **statistics.quantiles(requests, window),
        **statistics.run_totals(arrival_s, output_tokens, outcome, requests, slo),
    }
    served = outcome.status != REJECTED
    return CellSummary(
        policy=policy,
        oracle=oracle,
        load=load,
        seed=seed,
        arrivals=len(arrival_s),
        finished=counts[FINISHED],
        rejected=counts[REJECTED],
        unfinished=counts[UNFINISHED],
        measured=int(window.sum()),
        warmup=warmup,
        metrics={metric.name: known(values.get(metric.name)) for metric in METRICS},
        blocks={name: sums for name, (_, sums) in means.items()},
        jct_histogram=statistics.histogram(requests.jct_s[window]),
        saturation=saturation(arrival_s[served], outcome.finished_s[served]),
        stopped=outcome.stopped,
        recomputing=None if prompt_tokens is None else recomputing(prompt_tokens, output_tokens, outcome),
        bounds=bounds,
        by_batch=outcome.by_batch,
        by_drafts_s=outcome.by_drafts_s,
    )


def known(value: float | None) -> float | None:
    """Return the value, None where it is undefined."""
    return value if value is not None and math.isfinite(value) else None


def conserved(policy: str, arrivals: int, outcome: Outcome) -> list[int]:
    """Count by status; arrivals = finished + rejected + unfinished, and who finished has a finishing time."""
    counts: list[int] = np.bincount(outcome.status, minlength=len(STATUS)).tolist()
    timed = np.isfinite(outcome.finished_s)
    if len(counts) != len(STATUS) or sum(counts) != arrivals or np.any(timed != (outcome.status == FINISHED)):
        found = " + ".join(f"{count} {name}" for count, name in zip(counts, STATUS, strict=False))
        raise LapsbenchError(
            f"{arrivals} arrivals, but {found}, {timed.sum()} of them with a finishing time",
            where=policy,
            hint="reporting this as a defect, with the command that did it",
        )
    return counts


def in_time(policy: str, requests: RequestMetrics, outcome: Outcome, first: int = 0) -> None:
    """Refuse latencies of 0: there a clock was rounded away.

    A slowdown below 1 is none: a step is priced at the mean context of its batch, so a long context is cheaper among
    short ones than alone; and measured prices may fall where they should rise.
    """
    early = np.flatnonzero(requests.finished & (requests.jct_s <= 0) & (outcome.alone_s > 0))
    if len(early):
        row = int(early[0])
        raise LapsbenchError(
            f"{len(early)} of {len(requests.finished)} requests took no time at all: "
            f"request {first + row}, which takes {outcome.alone_s[row]:.3g} s alone",
            where=policy,
            hint="reporting this as a defect, with the command that did it",
        )
