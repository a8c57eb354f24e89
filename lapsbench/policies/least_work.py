"""Least expected engine time left: what a prediction of such a size has come to mean, given what is out already."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import CALIBRATION
from lapsbench.policies.compiler import njit
from lapsbench.policies.registry import policy
from lapsbench.policies.work import engine_s, prefill_left_s, weighed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lapsbench.core import Calibration, Floats
    from lapsbench.policies.view import Job, System

ROWS, COLUMNS = 64, 512
"""Predictions from 4 tokens on, eight to a factor of e; tokens out as a share of the prediction, as `SHARES`."""
NEAREST = 0.1
"""Share of the sample that a row learns from: those whose predictions are nearest."""
FEWEST = 5
"""Requests that a mean must rest on; beyond, it stays what it was."""
LINEAR = 256
"""Columns up to twice the prediction, evenly; the others go on to 64 times, evenly in the logarithm."""


def shares() -> Floats:
    """Return the share of its prediction that is out, by column."""
    return np.concatenate([np.arange(LINEAR) / 128.0, 2.0 ** (1.0 + np.arange(COLUMNS - LINEAR) / 51.0)])


def calibrate(sample: Calibration, parameters: Mapping[str, float]) -> Floats:  # noqa: ARG001 - as all are called
    """Fill the table: the mean of what was left, in units of the prediction, by prediction and share out.

    Shares, not tokens, so that what the sample teaches holds for longer or shorter requests than its own, and a
    predictor without error leaves exactly 1 - share.
    """
    table = np.empty((ROWS, COLUMNS))
    far = np.abs(np.log(sample.predicted_tokens) - np.log(4.0) - np.arange(ROWS)[:, None] / 8.0)
    count = min(max(math.ceil(NEAREST * far.shape[1]), FEWEST), far.shape[1])
    ratio = sample.output_tokens / sample.predicted_tokens
    for row in range(ROWS):
        near = far[row] <= np.partition(far[row], count - 1)[count - 1] + 1e-9
        table[row] = mean_left(np.sort(ratio[near]))
    return table.ravel()


def mean_left(ratio: Floats) -> Floats:
    """Return the mean of ratio - share over those beyond each share; where too few are, the last mean."""
    at = shares()
    first = np.searchsorted(ratio, at, side="right")
    last = max(int((len(ratio) - first >= min(FEWEST, len(ratio))).sum()) - 1, 0)
    sums = np.append(np.cumsum(ratio[::-1])[::-1], 0.0)
    left = sums[first] / np.maximum(len(ratio) - first, 1) - at
    left[last + 1 :] = left[last]
    return np.maximum(left, 0.0)


@njit(cache=True, error_model="numpy", nogil=True)
def tokens_left(job: Job, system: System) -> float:
    """Return the expected tokens left; at least one, for it is not finished."""
    share = job.emitted_tokens / job.predicted_tokens
    row = min(max(math.log(job.predicted_tokens / 4.0) * 8.0, 0.0), 62.999)
    column = share * 128.0 if share < 2.0 else 256.0 + 51.0 * (math.log2(share) - 1.0)
    column = min(column, 510.999)
    i, j = int(row), int(column)
    a, b = row - i, column - j
    at = i * 512 + j
    low = (1.0 - b) * system.table[at] + b * system.table[at + 1]
    high = (1.0 - b) * system.table[at + 512] + b * system.table[at + 513]
    return max(job.predicted_tokens * ((1.0 - a) * low + a * high), 1.0)


@policy(
    preemptive=True,
    source="this project; posterior mean of the length",
    knows=("predicted length", "prompt length", "the predictor's past errors", CALIBRATION),
    calibrate=calibrate,
)
def least_work(job: Job, system: System, margin: float = 1) -> float:
    """Least expected engine time left, prompt included; preempts only where that gains more than it costs."""
    rounds = tokens_left(job, system) / system.mean_tokens_per_round
    return weighed(job, system, engine_s(prefill_left_s(job), rounds, system), margin)
