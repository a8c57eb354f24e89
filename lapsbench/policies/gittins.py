"""Gittins index over rounds, learnt from a calibration sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import CALIBRATION, TABLE
from lapsbench.policies.registry import policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lapsbench.core import Calibration, Floats, Ints
    from lapsbench.policies.view import Job, System

CLASSES = 5
AGES = TABLE // 8
FEWEST = 20  # a class with fewer samples than this uses the pooled sample


def gittins_index(samples: Ints) -> Floats:
    """Return the index at ages 0 .. AGES - 1 of the empirical distribution of `samples` (int [M], >= 1).

    G(a) = min over d > 0 of E[min(S - a, d) | S > a] / P(S - a <= d | S > a) (Gittins 1979; Scully & Harchol-Balter
    2021). The minimum is attained at a sample, so only those are tried. Past the last sample: its last value.
    """
    ordered = np.sort(np.maximum(samples, 1)).astype(np.float64)
    index = np.empty(AGES)
    last = min(int(ordered[-1]), AGES)
    for age in range(last):
        left = ordered[np.searchsorted(ordered, age, side="right") :] - age
        count = np.arange(1, len(left) + 1)
        index[age] = np.min((np.cumsum(left) + (len(left) - count) * left) / count)
    index[last:] = index[last - 1]
    return index


def calibrate(sample: Calibration, parameters: Mapping[str, float]) -> Floats:
    """Fill the table: one row of indices per predicted class, or the pooled row where `per_class` is 0."""
    table = np.zeros((8, AGES))
    table[:CLASSES] = gittins_index(sample.rounds)
    for label in range(CLASSES):
        mine = sample.rounds[sample.predicted_class == label]
        if parameters["per_class"] and len(mine) >= FEWEST:
            table[label] = gittins_index(mine)
    return table.ravel()


@policy(
    preemptive=True,
    source="Gittins index, empirical",
    knows=(CALIBRATION, "predicted length class", "rounds done"),
    calibrate=calibrate,
)
def gittins(job: Job, system: System, per_class: float = 1) -> float:  # noqa: ARG001 - read by calibrate
    """Lowest Gittins index of its age in rounds, given the class its predicted length falls in."""
    return system.table[job.predicted_class * 4096 + min(job.rounds, 4095)]
