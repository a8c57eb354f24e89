"""How many rounds a recording takes at a draft length, and how many drafts those rounds accept (docs/model.md).

Knows positions and runs; knows nothing of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from lapsbench.core import Bank, Bytes, Ints, Longs


class Recordings(Protocol):
    """Which recording each request follows; `core.Workload` and `Assignment` are such."""

    @property
    def recording_start(self) -> Longs:
        """int64 [N], where the recording begins in `accept_runs`."""

    @property
    def recording_tokens(self) -> Ints:
        """int32 [N], its length, >= 1."""

    @property
    def recording_shift(self) -> Ints:
        """int32 [N], how far each further block is turned."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One recording for each request, in the words of `core.Workload`."""

    recording_start: Longs
    recording_tokens: Ints
    recording_shift: Ints


@dataclass(frozen=True, slots=True)
class Rounds:
    """Per request: rounds int32 [N], and accepted_tokens int32 [N], the emitted tokens less one for each round."""

    rounds: Ints
    accepted_tokens: Ints

    @property
    def tokens_per_round(self) -> float:
        """Acceptance length, pooled over all rounds; NaN where there are none."""
        rounds = int(self.rounds.sum(dtype=np.int64))
        return 1.0 + int(self.accepted_tokens.sum(dtype=np.int64)) / rounds if rounds else float("nan")


def whole(bank: Bank) -> Assignment:
    """Return each recording of the bank assigned to itself."""
    return Assignment(bank.offsets[:-1], bank.output_tokens, np.zeros(len(bank), dtype=np.int32))


def rounds_of(bank: Bank, draft_tokens: int) -> Rounds:
    """Return the rounds of every recording of the bank at `draft_tokens` drafts a round."""
    return rounds_of_requests(bank.output_tokens, whole(bank), bank.accept_runs, draft_tokens)


def rounds_of_requests(output_tokens: Ints, recordings: Recordings, accept_runs: Bytes, draft_tokens: int) -> Rounds:
    """Return the rounds of every request at `draft_tokens` drafts a round.

    Prefill emits the first token, so rounds start at g = 1; one at g emits min(accept_runs[g], k) + 1 tokens, cut at
    the end. All requests walk in lock-step: one turn of the loop is one round of all that are still going.
    """
    rounds = np.zeros(len(output_tokens), dtype=np.int32)
    going = np.flatnonzero(output_tokens > 1)
    emitted = np.ones(len(going), dtype=np.int64)
    while len(going):
        runs = accept_runs[positions(recordings, going, emitted)]
        emitted += np.minimum(runs, draft_tokens).astype(np.int64) + 1
        rounds[going] += 1
        left = emitted < output_tokens[going]
        going, emitted = going[left], emitted[left]
    decoded = np.maximum(output_tokens - 1, 0)
    return Rounds(rounds, (decoded - rounds).astype(np.int32))


def positions(recordings: Recordings, requests: Longs, emitted: Longs) -> Longs:
    """Return where in `accept_runs` the `requests` stand with `emitted` tokens out, as told at `core.Workload`."""
    length = recordings.recording_tokens[requests].astype(np.int64)
    block, offset = np.divmod(emitted, length)
    turned = (offset + recordings.recording_shift[requests] * block) % length
    return np.asarray(recordings.recording_start[requests] + turned, dtype=np.int64)
