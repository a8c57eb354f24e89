"""What a policy may weigh beside its request: who waits, what preempting costs; and the limit on how often it preempts.

Only for policies that read it. `sim/weighing.py` does the same for a replay.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.policies.uses import reads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lapsbench.core import Longs, Policy
    from lapsbench.vllm.board import Board
    from lapsbench.vllm.calibrate import Learnt

LOWEST = float(np.finfo(np.float64).min)
"""Below this there is only the rank of a request that may not be preempted any more."""
NS = 1e9


class Weighing:
    """What one policy weighs.

    Attributes:
        any: it weighs anything at all; else nothing here is asked.
        limited: it may preempt a request by rank so many times only.
    """

    def __init__(self, policy: Policy, learnt: Learnt) -> None:
        self.resume_s, self.token_s, self.most = learnt.resume_s, learnt.token_s, policy.preempt
        self.limited = math.isfinite(policy.preempt)
        self.resuming = reads(policy, "resume_s") and len(self.resume_s) > 0
        self.waiting, self.backlog = reads(policy, "waiting"), reads(policy, "backlog_s")
        self.any = self.limited or self.resuming or self.waiting or self.backlog

    def look(self, board: Board, running: list[int]) -> None:
        """Note who runs, and show the policy how many wait; their work only where it asks, for that takes a while."""
        board.runs[:] = False
        board.runs[running] = True
        board.system["waiting"][0] = len(board.place) - len(running)
        if self.backlog:
            waiting, view = np.flatnonzero(board.live & ~board.runs), board.view
            prompt_s = view["prefill_s"] * view["prefill_left_tokens"] / np.maximum(view["prompt_tokens"], 1)
            left = np.maximum(view["predicted_tokens"] - view["emitted_tokens"], 0.0)
            work_ns = ((prompt_s + left * self.token_s)[waiting] * NS).astype(np.int64)
            board.system["backlog_s"][0] = work_ns.sum() / NS

    def show(self, board: Board, places: Longs) -> None:
        """Show what taking each of some requests out now would cost when it resumes."""
        if self.resuming:
            view = board.view
            done = view["prompt_tokens"][places] + view["emitted_tokens"][places] - view["prefill_left_tokens"][places]
            cost_s = self.resume_s[np.clip(done, 0, len(self.resume_s) - 1)]
            view["resume_s"][places] = np.where(board.runs[places], cost_s, 0.0)

    def limit(self, board: Board, places: Longs) -> None:
        """Rank running requests that were preempted as often as may be before everybody else."""
        if self.limited:
            stays = board.runs[places] & (board.displaced[places] >= self.most)
            board.rank[places] = np.where(stays, -math.inf, np.maximum(board.rank[places], LOWEST))

    def starts(self, board: Board, places: Iterable[int]) -> None:
        """Requests that got a place: some may not lose it any more."""
        stay = [place for place in places if board.displaced[place] >= self.most]
        board.rank[stay], board.moved[stay] = -math.inf, True

    def evicted(self, board: Board, place: int, now_s: float) -> None:
        """Memory took a request's place: its policy ranks it among the waiting."""
        if self.limited and board.rank[place] < LOWEST:
            board.review_s[place] = min(board.review_s[place], now_s)
