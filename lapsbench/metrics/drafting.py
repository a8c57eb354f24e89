"""What became of the drafts of a run, by how many requests drafted together: made, accepted, wasted, and their time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import TALLY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lapsbench.core import Floats


@dataclass(frozen=True, slots=True)
class Drafted:
    """Steps in which `first` to `last` requests did a round; shares are of these steps alone.

    Attributes:
        drafts_per_round, accepted_per_round: pooled over their rounds.
        wasted_fraction: drafts that were verified and not accepted, of all; None where there are none.
        time_fraction: time of drafting over time of the steps.
        step_fraction: their time over that of all steps.
    """

    first: int
    last: int
    steps: int
    rounds: int
    drafts_per_round: float
    accepted_per_round: float
    wasted_fraction: float | None
    time_fraction: float | None
    step_fraction: float | None


def drafted(tallies: Iterable[Floats]) -> tuple[Drafted, ...]:
    """Return what became of the drafts of runs, of all steps and then by doubling size; nothing where none is known.

    `tallies`: `Outcome.by_batch` of each.
    """
    found = [np.asarray(each) for each in tallies]
    size = max((len(each) for each in found), default=0)
    total = np.zeros((size, len(TALLY)))
    for each in found:
        total[: len(each)] += each
    ends = [2**power for power in range(size.bit_length() + 1)]
    spans = [(1, size - 1), *((first, min(2 * first - 1, size - 1)) for first in ends if first < size)]
    rows = [_row(total, first, last) for first, last in spans if first <= last]
    return tuple(row for row in rows if row is not None)


def pooled_s(times: Iterable[Floats]) -> Floats:
    """Return `Outcome.by_drafts_s` of several runs in one; of runs that kept none, none."""
    found = [each for each in times if each.size]
    total = np.zeros(np.max([each.shape for each in found], axis=0) if found else (0, 0))
    for each in found:
        total[: each.shape[0], : each.shape[1]] += each
    return total


def kept(by_batch: Floats) -> dict[str, Any]:
    """Return a tally for a file: its size, and its rows up to the largest batch that ever was."""
    used = np.flatnonzero(by_batch.any(axis=1)) if len(by_batch) else np.zeros(0, np.int64)
    return {"size": len(by_batch), "rows": by_batch[: int(used[-1]) + 1 if len(used) else 0].tolist()}


def of_kept(found: Mapping[str, Any] | None) -> Floats:
    """Return the tally that a file keeps; of runs that kept none, none."""
    tally = np.zeros((found["size"] if found else 0, len(TALLY)))
    if found and found["rows"]:
        tally[: len(found["rows"])] = found["rows"]
    return tally


def kept_s(by_drafts_s: Floats) -> dict[str, Any]:
    """Return times by batch and drafts for a file: their shape, and batch, drafts, seconds of those that ever were."""
    places = np.argwhere(by_drafts_s).tolist()
    return {"shape": list(by_drafts_s.shape), "times": [[*place, float(by_drafts_s[tuple(place)])] for place in places]}


def of_kept_s(found: Mapping[str, Any] | None) -> Floats:
    """Return the times that a file keeps; of runs that kept none, none."""
    times = np.zeros(found["shape"] if found else (0, 0))
    for batch, drafts, time_s in found["times"] if found else ():
        times[batch, drafts] = time_s
    return times


def as_json(by_batch: Floats) -> dict[str, Any] | None:
    """Return what `--json` says of a cell's drafts; None where nothing is known."""
    rows = drafted([by_batch])
    return {"all": _facts(rows[0]), "by_batch": [_facts(row) for row in rows[1:]]} if rows else None


def _row(total: Floats, first: int, last: int) -> Drafted | None:
    mine = total[first : last + 1]
    steps, made, accepted, draft_s, step_s = (float(each) for each in mine.sum(axis=0))
    rounds = float((mine[:, 0] * np.arange(first, last + 1)).sum())
    if rounds == 0:
        return None
    return Drafted(
        first=first,
        last=last,
        steps=int(steps),
        rounds=int(rounds),
        drafts_per_round=made / rounds,
        accepted_per_round=accepted / rounds,
        wasted_fraction=_share(made - accepted, made),
        time_fraction=_share(draft_s, step_s),
        step_fraction=_share(step_s, float(total[:, 4].sum())),
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _facts(row: Drafted) -> Mapping[str, Any]:
    return {name: getattr(row, name) for name in Drafted.__slots__}
