"""How soon a request's own rounds tell its acceptance: the error of three estimates after r rounds.

What a scheduler needs is how the rounds still to come will go, so an estimate is judged by those: after r rounds, its
relative error against the tokens per round of the rest. Acceptance is fixed before any policy runs, so is this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.acceptance.rounds import positions

if TYPE_CHECKING:
    from lapsbench.core import Floats, Longs, Workload

CHECKPOINTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
LEAST_LEFT = 8
"""Rounds that must be left: the mean of fewer is mostly chance."""
FEWEST = 30
"""Requests that a point must rest on."""
SAMPLE = 2000
PRIOR_ROUNDS = 8
"""As srpt-accept weighs the mean of all requests."""
OWN, ALL, BOTH = "its own rounds so far", "the mean of all requests", f"both, the mean as {PRIOR_ROUNDS} rounds"


def estimate_rows(work: Workload, draft_tokens: int) -> list[dict[str, Any]]:
    """Return a row per estimate and number of rounds: the errors that half and 90 % of the requests are within.

    None where nothing is drafted.
    """
    sample = np.flatnonzero(work.output_tokens > 1)
    sample = sample[np.unique(np.linspace(0, len(sample) - 1, SAMPLE).astype(np.int64))] if len(sample) else sample
    if draft_tokens == 0 or not len(sample):
        return []
    emitted, rounds = _walk(work, sample, draft_tokens)
    tokens = work.output_tokens[sample] - 1.0
    mean = float(tokens.sum() / rounds.sum())
    rows: list[dict[str, Any]] = []
    for so_far, at in zip(emitted, CHECKPOINTS, strict=True):
        judged = rounds - at >= LEAST_LEFT
        if judged.sum() < FEWEST:
            break
        seen = so_far[judged]
        rest = (tokens[judged] - seen) / (rounds[judged] - at)
        for name, estimate in (
            (OWN, seen / at),
            (ALL, np.full(len(seen), mean)),
            (BOTH, (seen + PRIOR_ROUNDS * mean) / (at + PRIOR_ROUNDS)),
        ):
            median, high = np.quantile(np.abs(estimate / rest - 1.0), (0.5, 0.9)).tolist()
            rows.append({"estimate": name, "rounds": at, "error_p50": median, "error_p90": high, "requests": len(seen)})
    return rows


def _walk(work: Workload, sample: Longs, draft_tokens: int) -> tuple[Floats, Longs]:
    """Return the tokens emitted by each checkpoint, float64 [checkpoints, sample], and all rounds, int64 [sample].

    Rounds are walked as in `acceptance.rounds`: from g = 1, each min(accept_runs[g], k) + 1 tokens, cut at the end.
    """
    emitted = np.ones(len(sample), np.int64)
    rounds = np.zeros(len(sample), np.int64)
    found = np.zeros((len(CHECKPOINTS), len(sample)))
    limit = work.output_tokens[sample]
    going = np.arange(len(sample))
    while len(going):
        runs = work.accept_runs[positions(work, sample[going], emitted[going])]
        emitted[going] = np.minimum(emitted[going] + np.minimum(runs, draft_tokens) + 1, limit[going])
        rounds[going] += 1
        now = int(rounds[going[0]])
        if now in CHECKPOINTS:
            found[CHECKPOINTS.index(now)] = emitted - 1
        going = going[emitted[going] < limit[going]]
    return found, rounds
