"""What became of every request, from the step log of a real run: the same columns as a replay's.

One thing a log does not tell: with `keep`, a request that was evicted and finds all its blocks again, to the last
token, looks as if it did a round without drafts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import FINISHED, REJECTED, UNFINISHED, Outcome

if TYPE_CHECKING:
    from lapsbench.core import Floats, Workload
    from lapsbench.store.steps import Steps

FATES = {"finished": FINISHED, "rejected": REJECTED, "aborted": UNFINISHED}


@dataclass
class Served:
    """A request while the log is read."""

    prompt_tokens: int
    admitted_s: float = math.nan
    first_token_s: float = math.nan
    last_emit_s: float = math.nan
    itl_max_s: float = math.nan
    emitted: int = 0
    rounds: int = 0
    accepted_tokens: int = 0
    resumes: int = 0
    preemptions: int = 0
    recomputed_tokens: int = 0
    peak_tokens: int = 0
    dropped: bool = False
    """Its memory was taken, and what was in it is not all there again."""

    def take(self, start_s: float, end_s: float, sizes: list[int], *, keeps: bool) -> None:
        """Count what a step did for it, `sizes` as in `store.steps.ROW`; `keeps`: preempting drops nothing."""
        tokens, cached, drafts, emitted, preempted = sizes
        self.preemptions += preempted
        self.dropped |= bool(preempted) and not keeps
        if not tokens:
            return
        if math.isnan(self.admitted_s):
            self.admitted_s = start_s
        context = self.prompt_tokens + self.emitted
        whole = tokens == drafts + 1 and cached >= context - 1
        is_round = whole and self.emitted > 0 and emitted > 0 and not self.dropped
        end = context if is_round else min(cached + tokens, context)
        if not is_round:
            self.recomputed_tokens += max(0, min(end, self.peak_tokens) - cached)
            self.dropped &= end < context
        self.peak_tokens = max(self.peak_tokens, end)
        if emitted:
            self.emit(end_s, emitted, is_round=is_round)

    def emit(self, at_s: float, tokens: int, *, is_round: bool) -> None:
        """Count emitted tokens."""
        if not self.emitted:
            self.first_token_s = at_s
        elif is_round:
            self.rounds += 1
            self.accepted_tokens += tokens - 1
        else:
            self.resumes += tokens
        self.emitted += tokens
        self.itl_max_s = float(np.fmax(self.itl_max_s, at_s - self.last_emit_s))
        self.last_emit_s = at_s


def outcome_of(log: Steps, work: Workload, alone_s: Floats) -> Outcome:
    """Return what became of the requests of a workload that was served; they arrive in its order."""
    requests = [Served(tokens) for tokens in work.prompt_tokens.tolist()]
    keeps, start_s, end_s = log.header["on_preempt"] == "keep", log.start_s.tolist(), log.end_s.tolist()
    for step, number, *sizes in log.rows.tolist():
        requests[number].take(start_s[step], end_s[step], sizes, keeps=keeps)
    status = np.full(len(work), UNFINISHED, np.uint8)
    for number, departure in log.departures.items():
        status[number] = FATES[departure.status]

    def times(name: str) -> Floats:
        return np.array([getattr(each, name) for each in requests], np.float64)

    def counts(name: str, dtype: type = np.int32) -> np.ndarray:
        return np.array([getattr(each, name) for each in requests], dtype)

    return Outcome(
        admitted_s=times("admitted_s"),
        first_token_s=times("first_token_s"),
        finished_s=np.where(status == FINISHED, times("last_emit_s"), np.nan),
        rounds=counts("rounds"),
        accepted_tokens=counts("accepted_tokens"),
        preemptions=counts("preemptions"),
        recomputed_tokens=counts("recomputed_tokens", np.int64),
        status=status,
        itl_max_s=times("itl_max_s"),
        alone_s=alone_s,
        steps=len(log.start_s),
        makespan_s=float(log.end_s.max(initial=0.0)),
        lookups=0,
        lookups_beyond=0,
        stopped="stalled" if (status == UNFINISHED).any() else "",
        resumes=counts("resumes"),
    )
