"""Least expected engine time left: what a prediction of such a size has come to mean, given what is out already."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.compiled.later import helper
from lapsbench.core import CALIBRATION
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
"""Requests that an index must rest on; beyond, it stays what it was."""
SHARE = 0.05
"""Of those who go on, how many a stop must see finish: the first of them alone would be luck."""
LINEAR = 256
"""Columns up to twice the prediction, evenly; the others go on to 64 times, evenly in the logarithm."""
FINISHED = "lengths of finished requests"


def shares() -> Floats:
    """Return the share of its prediction that is out, by column."""
    return np.concatenate([np.arange(LINEAR) / 128.0, 2.0 ** (1.0 + np.arange(COLUMNS - LINEAR) / 51.0)])


def calibrate(sample: Calibration, parameters: Mapping[str, float]) -> Floats:  # noqa: ARG001 - as all are called
    """Fill the table: what is left, in units of the prediction, by prediction and share out.

    Shares, not tokens, so that what the sample teaches holds for longer or shorter requests than its own, and a
    predictor without error leaves exactly 1 - share.
    """
    table = np.empty((ROWS, COLUMNS))
    known: dict[bytes, Floats] = {}
    far = np.abs(np.log(sample.predicted_tokens) - np.log(4.0) - np.arange(ROWS)[:, None] / 8.0)
    count = min(max(math.ceil(NEAREST * far.shape[1]), FEWEST), far.shape[1])
    ratio = sample.output_tokens / sample.predicted_tokens
    for row in range(ROWS):
        near = far[row] <= np.partition(far[row], count - 1)[count - 1] + 1e-9
        if near.tobytes() not in known:  # few predictions, few different rows
            known[near.tobytes()] = held(np.sort(ratio[near]))
        table[row] = known[near.tobytes()]
    return table.ravel()


def held(ratio: Floats) -> Floats:
    """Return the least of the indices so far: what a job has left never rises as it goes on.

    Where it may, whoever outlives what the sample has seen yields to all who arrive. Without predictions, and lengths
    that are not the sample's, that took 2.0 to 2.9 times as long at batch 1; with good ones it changes nothing.
    """
    return np.minimum.accumulate(index(ratio))


def index(ratio: Floats) -> Floats:
    """Return the Gittins index by share out: mean time to a stop, over the chance to be finished by then, at its least.

    Stops are where requests of the sample finish. Where too few go on so far, the last index.
    """
    at, size = shares(), len(ratio)
    first = np.searchsorted(ratio, at, side="right")
    going = size - first
    last = max(int((going >= min(FEWEST, size)).sum()) - 1, 0)
    done = np.arange(1, size + 1) - first[:, None]  # by each stop
    sums = np.append(0.0, np.cumsum(ratio))
    spent = sums[1:] - sums[first][:, None] + (size - np.arange(1, size + 1)) * ratio - (going * at)[:, None]
    enough = done >= np.maximum(SHARE * going, 1.0)[:, None]
    least = np.where(enough, spent / np.maximum(done, 1), np.inf).min(axis=1)
    least[last + 1 :] = least[last]
    return np.maximum(least, 0.0)


@helper
def tokens_left(job: Job, system: System) -> float:
    """Return the tokens left, as an index of them; at least one, for it is not finished."""
    predicted = job.predicted_tokens * job.past_ratio
    if job.scratch[0] == 0.0:  # what never changes: a logarithm and a division a round took half of the time
        row = min(max(math.log(job.predicted_tokens / 4.0) * 8.0 + 0.5, 0.0), ROWS - 1.0)
        job.scratch[0], job.scratch[1] = 1.0 / predicted, math.floor(row) * COLUMNS
    share = job.emitted_tokens * job.scratch[0]
    column = share * 128.0 if share < 2.0 else min(LINEAR + 51.0 * (math.log2(share) - 1.0), COLUMNS - 1.001)
    at = int(column)
    part, at = column - at, at + int(job.scratch[1])
    return max(predicted * ((1.0 - part) * system.table[at] + part * system.table[at + 1]), 1.0)


@policy(
    preemptive=True,
    source="this project; Gittins index of the length",
    knows=("predicted length", "prompt length", "the predictor's past errors", FINISHED, CALIBRATION),
    calibrate=calibrate,
)
def least_work(job: Job, system: System, margin: float = 1) -> float:
    """Least expected engine time left, prompt included; preempts only where that gains more than it costs."""
    rounds = tokens_left(job, system) / system.mean_tokens_per_round
    return weighed(job, system, engine_s(prefill_left_s(job), rounds, system), margin)
