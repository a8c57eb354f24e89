"""How many tokens a step drafts, in plain Python: a controller, asked, and what it is told of steps that have ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lapsbench import schedules
from lapsbench.core import DRAFTS_MOST, PARAMETERS, SCRATCH
from lapsbench.drafts.binding import plain
from lapsbench.drafts.registry import by_request, find
from lapsbench.errors import LapsbenchError
from lapsbench.policies.uses import reads

if TYPE_CHECKING:
    from lapsbench.core import Engine
    from lapsbench.sim.reference.prices import Prices


@dataclass(frozen=True)
class Drafts:
    """Of a step, or of its rounds: the most that one drafts, and their mean."""

    most: int
    mean: float


def _zeros(size: int = DRAFTS_MOST + 1) -> list[float]:
    return [0.0] * size


@dataclass
class StepView:
    """A step as a controller sees it: `core.DRAFTING`, in plain Python."""

    draft_tokens: int
    most_drafts: int
    max_batch: int
    params: list[float]
    now_s: float = 0.0
    number: int = 0
    batch: int = 0
    context_tokens: float = 0.0
    scheduled: int = 0
    rounds: int = 0
    accepted_tokens: int = 0
    tried: list[float] = field(default_factory=_zeros)
    passed: list[float] = field(default_factory=_zeros)
    cost_s: list[float] = field(default_factory=_zeros)
    would_accept: list[float] = field(default_factory=_zeros)
    scratch: list[float] = field(default_factory=lambda: _zeros(SCRATCH))


class Drafting:
    """Who says how many tokens are drafted; without a controller as many in every step."""

    def __init__(self, engine: Engine, prices: Prices) -> None:
        self.most, self.prices = engine.draft_tokens, prices
        self.varies, self.for_each, self.oracle = bool(engine.drafts), False, False
        self.view = StepView(self.most, self.most, engine.max_batch, _zeros(PARAMETERS))
        if not self.varies:
            return
        controller = find(engine.drafts)
        self.name = controller.name
        self.choose, self.for_each, self.oracle = plain(controller), by_request(controller), controller.oracle
        self.wants_costs = reads(controller, "cost_s")
        self.view.params[: len(controller.parameters)] = list(controller.parameters.values())
        self.schedule = schedules.dense(engine.schedule, engine.max_batch) if engine.schedule else None

    def ask(self, views: list[Any], contexts: list[int], runs: list[int], now_s: float, number: int) -> list[int]:
        """Return the drafts for each of these requests; `runs`: what each would accept."""
        if not self.varies:
            return [self.most] * len(views)
        view = self.view
        view.now_s, view.number, view.batch = now_s, number, len(views)
        view.context_tokens = sum(contexts) / len(views)
        view.scheduled = self.most
        if self.schedule is not None:
            view.scheduled = schedules.at(*self.schedule, view.batch, view.context_tokens)
        if self.wants_costs:
            self.prices.by_drafts(view.cost_s, view.batch, view.context_tokens, self.most)
        if self.oracle:
            view.would_accept = [float(sum(run >= j for run in runs)) for j in range(DRAFTS_MOST + 1)]
        answers = [self.choose(job, view) for job in (views if self.for_each else [None])]
        if any(map(math.isnan, answers)):
            hint = "guarding divisions"
            raise LapsbenchError("returned NaN", where=f"drafts {self.name!r}", hint=hint)
        view.rounds = view.accepted_tokens = 0
        chosen = [int(answer) for answer in answers]
        view.draft_tokens = max(chosen)
        return chosen if self.for_each else chosen * len(views)

    def learn(self, drafts: int, accepted: int) -> None:
        """Note a round that has ended: so many were verified, so many accepted."""
        view = self.view
        view.rounds += 1
        view.accepted_tokens += accepted
        for j in range(1, min(accepted + 1, drafts) + 1):
            for place in (0, j):
                view.tried[place] += 1.0
                view.passed[place] += float(j <= accepted)


def together(drafts: list[int]) -> Drafts:
    """Return what the rounds of a step draft together."""
    return Drafts(max(drafts), sum(drafts) / len(drafts))
