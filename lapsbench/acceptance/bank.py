"""Builds a bank of what engines publish: accepted drafts round by round, or at every position.

Prefill gives the first token, so the recorded rounds begin at g = 1, and a recording of them is one token longer than
they are. A round that starts at g and accepts a drafts says accept_runs[g + j] = a - j for j = 0 .. a. What nobody
recorded, a round before the first token, is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import Bank
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.core import Bytes, Longs

MOST = 255
"""A run is one byte: longer ones are cut there."""
ABSURD = 4096
"""No engine drafts so many tokens a round."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What one prompt's answer said of acceptance.

    Attributes:
        prompt_tokens: None where the file does not say.
        accepted: int64 [R], drafts accepted in each round; or at each position from g = 0 on.
    """

    prompt_id: str
    category: str
    prompt_tokens: int | None
    accepted: Longs


def from_rounds(
    recordings: Sequence[Recording],
    draft_tokens_max: int | None,
    prompt_tokens: int,
    where: str,
    *,
    clip: bool = False,
) -> tuple[Bank, tuple[str, ...]]:
    """Return a bank of rounds, and what had to be done to it, for people.

    Args:
        recordings: one per prompt; those without rounds are left out and counted.
        draft_tokens_max: how many drafts the engine made; None: the most that were accepted.
        prompt_tokens: for recordings that do not say.
        where: the file, for errors.
        clip: rounds that accept more than `draft_tokens_max` count as such, where they are else refused.

    Raises:
        LapsbenchError: no recording has a round, or a round accepts more than the engine drafted.
    """
    kept, notes = _with_rounds(recordings, 1, where)
    accepted = np.concatenate([each.accepted for each in kept])
    _refuse_absurd(int(accepted.max()), where)  # each is about to become as many values
    emitted = accepted + 1
    ends = np.cumsum(emitted)
    begins = np.repeat(ends - emitted, emitted)
    runs = np.repeat(accepted, emitted) - (np.arange(ends[-1]) - begins)
    tokens = np.add.reduceat(emitted, _starts([len(each.accepted) for each in kept]))
    runs = np.insert(runs, np.cumsum(tokens) - tokens, 0)  # g = 0, before each recording's first round
    bank, said = _bank(kept, runs, tokens + 1, draft_tokens_max, prompt_tokens, where, clip=clip)
    # a smaller k stops inside a recorded round, behind which only the rest of that round is known
    exact = f"exact at the k of its rounds ({bank.draft_tokens_max} at most), a lower bound at a smaller k"
    return bank, (*notes, *said, exact)


def from_positions(
    recordings: Sequence[Recording], draft_tokens_max: int | None, prompt_tokens: int, where: str
) -> tuple[Bank, tuple[str, ...]]:
    """Return a bank of runs at every position from g = 0 on; arguments and errors as for `from_rounds`."""
    kept, notes = _with_rounds(recordings, 2, where)
    runs = np.concatenate([each.accepted for each in kept])
    tokens = np.array([len(each.accepted) for each in kept], dtype=np.int64)
    bank, said = _bank(kept, runs, tokens, draft_tokens_max, prompt_tokens, where)
    return bank, (*notes, *said)


def runs_of(drafts: Sequence[int], emitted: Sequence[int]) -> tuple[Bytes, Bytes]:
    """Return what a request accepts and is given from each of its tokens on, from its steps that emitted something.

    Within a round it is what was left of that round.
    """
    runs, drafted, at = np.zeros(sum(emitted), np.uint8), np.zeros(sum(emitted), np.uint8), 0
    for given, count in zip(drafts, emitted, strict=True):
        runs[at : at + count] = np.arange(count - 1, -1, -1)
        drafted[at : at + count] = np.maximum(given - np.arange(count), np.arange(count - 1, -1, -1))
        at += count
    return runs, drafted


def _with_rounds(recordings: Sequence[Recording], least: int, where: str) -> tuple[list[Recording], list[str]]:
    """Return the recordings of at least so many values, and a note on how many are left out."""
    kept = [each for each in recordings if len(each.accepted) >= least]
    if not kept:
        raise LapsbenchError("holds no rounds", where=where, hint="a file of an engine that drafted")
    empty = len(recordings) - len(kept)
    return kept, [f"{empty} without rounds: left out"] if empty else []


def _bank(
    recordings: Sequence[Recording],
    runs: Longs,
    tokens: Longs,
    draft_tokens_max: int | None,
    prompt_tokens: int,
    where: str,
    *,
    clip: bool = False,
) -> tuple[Bank, list[str]]:
    """Name the limit that the runs of each recording, end to end, were recorded with."""
    notes = []
    most = int(runs.max())
    _refuse_absurd(most, where)
    limit = min(most if draft_tokens_max is None else draft_tokens_max, MOST)
    if most > MOST:
        notes.append(f"runs of more than {MOST} drafts: cut there")
    elif most > limit and not clip:
        what = f"a round accepts {most} drafts, more than the {limit} it may have had"
        raise LapsbenchError(what, where=where, hint="the number of drafts the engine made, or none")
    unknown = sum(each.prompt_tokens is None for each in recordings)
    if unknown:
        notes.append(f"{unknown} prompts of unknown length: taken as {prompt_tokens}")
    lengths = [prompt_tokens if each.prompt_tokens is None else each.prompt_tokens for each in recordings]
    bank = Bank(
        prompt_id=np.array([each.prompt_id for each in recordings], dtype=object),
        category=np.array([each.category for each in recordings], dtype=object),
        prompt_tokens=np.array(lengths, dtype=np.int32),
        output_tokens=tokens.astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(tokens)]).astype(np.int64),
        accept_runs=np.minimum(runs, limit).astype(np.uint8),
        draft_tokens_max=limit,
    )
    return bank, notes


def _refuse_absurd(most: int, where: str) -> None:
    if most > ABSURD:
        raise LapsbenchError(f"a round accepts {most:,} drafts", where=where, hint="checking what the file holds")


def _starts(sizes: Sequence[int]) -> Longs:
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
