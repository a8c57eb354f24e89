"""The drafts of most tokens a second, by batch and mean context: a schedule made of a profile's costs and acceptance.

At batch b and context c, the k with the most tokens a round(k) / (overhead(b) + draft(b, k, c) + verify(b, k + 1, c)),
where tokens a round are pooled over the recorded prompts. The prefill that a step may hold beside its rounds is not
counted. Contexts are told apart in bands, each judged in its middle.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.acceptance.rounds import rounds_of
from lapsbench.core import UNLIMITED, Bank, Engine, Profile
from lapsbench.errors import LapsbenchError
from lapsbench.schedules import BY_BATCH, Range
from lapsbench.sim.cost import BY_DRAFTS, OVERHEAD, step_costs
from lapsbench.sim.interpolation import along

if TYPE_CHECKING:
    from lapsbench.core import Floats, Longs

EDGES = (*range(0, 1792, 256), 2048, 4096, 8192, 16384)
"""Where bands of mean context begin. One of 1024 to 2048, judged at 1536, cost prompt lookup on a CPU a fifth of mean
JCT at nearly full load, where the best k rises from 0 to 1 at 1408."""


def ceiling(profile: Profile) -> int:
    """Return the most drafts that a profile can speak of: recorded, and priced."""
    costs = profile.costs
    priced = int(costs.query_tokens[costs.component == "draft"].max(initial=0))
    return min(priced, profile.bank.draft_tokens_max) if profile.bank is not None else priced


def schedule(profile: Profile, max_batch: int, most: int) -> tuple[Range, ...]:
    """Return the best drafts by batch, and by band of mean context where they differ."""
    middles = [(EDGES[i] + EDGES[i + 1]) / 2 for i in range(len(EDGES) - 1)] + [1.5 * EDGES[-1]]
    table = _table(profile, max_batch, most, np.array(middles))
    found: list[Range] = []
    for first, last, drafts in _alike(table):
        bands = [(k, [place for place, _ in group]) for k, group in groupby(enumerate(drafts), key=lambda it: it[1])]
        for k, places in bands:
            end = EDGES[places[-1] + 1] - 1 if places[-1] + 1 < len(EDGES) else UNLIMITED
            found.append(Range(first, UNLIMITED if last == max_batch else last, k, EDGES[places[0]], end))
    return tuple(found)


def flat(profile: Profile, max_batch: int, most: int) -> tuple[Range, ...]:
    """Return the best drafts by batch alone, at the mean context of the recorded prompts' rounds."""
    bank = _bank(profile)
    weights = bank.output_tokens / bank.output_tokens.sum()
    context = float(((bank.prompt_tokens + bank.output_tokens / 2) * weights).sum())
    table = _table(profile, max_batch, most, np.array([context]))
    return tuple(
        Range(first, UNLIMITED if last == max_batch else last, drafts[0]) for first, last, drafts in _alike(table)
    )


def _table(profile: Profile, max_batch: int, most: int, contexts: Floats) -> Longs:
    """Return the best drafts, int64 [max_batch + 1, contexts]; row 0 means nothing."""
    costs = step_costs(profile, Engine(max_batch=max_batch, draft_tokens=most, drafts=BY_BATCH, schedule="1-:0"))
    bank = _bank(profile)
    gains = [rounds_of(bank, drafts).tokens_per_round for drafts in range(most + 1)]
    overhead = _times(costs.context, costs.step_s[OVERHEAD], np.zeros(1))
    rates = []
    for drafts in range(most + 1):
        draft = _times(costs.context, costs.step_s[BY_DRAFTS + 2 * drafts], contexts) if drafts else 0.0
        rates.append(
            gains[drafts]
            / (overhead + draft + _times(costs.context, costs.step_s[BY_DRAFTS + 2 * drafts + 1], contexts))
        )
    return np.argmax(np.array(rates), axis=0)


def _times(knots: Floats, times: Floats, contexts: Floats) -> Floats:
    """Return the times of all batches, float64 [max_batch + 1, contexts]."""
    return np.maximum(along(knots, times.T, contexts), 0.0).T


def _alike(table: Longs) -> list[tuple[int, int, tuple[int, ...]]]:
    """Return runs of batches that draft alike: the first, the last, and their drafts."""
    rows = [(batch, tuple(int(k) for k in row)) for batch, row in enumerate(table)][1:]
    groups = [(drafts, [batch for batch, _ in group]) for drafts, group in groupby(rows, key=lambda it: it[1])]
    return [(batches[0], batches[-1], drafts) for drafts, batches in groups]


def _bank(profile: Profile) -> Bank:
    if profile.bank is None:
        what = "has costs but no acceptance, so nothing says which drafts pay"
        raise LapsbenchError(what, where=f"profile {profile.name}", hint="--acceptance-length X, or --acceptance FILE")
    return profile.bank
