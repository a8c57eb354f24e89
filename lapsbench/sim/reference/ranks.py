"""A policy, asked in plain Python: what it sees of a job and of the engine, and what it charges to clients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import SCRATCH, Policy, Workload
from lapsbench.errors import LapsbenchError
from lapsbench.policies.binding import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lapsbench.sim.setup import Setup


@dataclass
class View:
    """The job as its policy sees it: `core.JOB`, in plain Python."""

    arrival_s: float
    prompt_tokens: int
    predicted_tokens: float
    predicted_class: int = 0
    predicted_rounds: float = math.nan
    prefill_s: float = 0.0
    priority: int = 0
    last_run_step: int = -1
    attained_s: float = 0.0
    review_s: float = math.inf
    review_step: float = math.inf
    client_tokens: float = 0.0
    emitted_tokens: int = 0
    rounds: int = 0
    accepted_tokens: int = 0
    category: int = -1
    resume_s: float = 0.0
    own_tokens_per_round: float = math.nan
    past_ratio: float = 1.0
    tried_tokens: int = 0
    drafted_tokens: int = 0

    def __post_init__(self) -> None:
        self.last_run_s = self.arrival_s
        self.prefill_left_tokens = self.prompt_tokens
        self.scratch = np.zeros(SCRATCH)


@dataclass
class SystemView:
    """Everything else a policy sees: `core.SYSTEM`, in plain Python."""

    now_s: float
    step: int
    max_batch: int
    draft_tokens: int
    mean_tokens_per_round: float
    mean_round_s: float
    round_s: float
    mean_service_s: float
    service_p20_s: float
    waiting: int
    backlog_s: float
    fcfs_p99_s: float
    category_tokens_per_round: list[float]
    params: list[float]
    table: list[float]


@dataclass
class Client:
    """A client's virtual token counter: lift + w_in * prompt tokens + w_out * emitted tokens."""

    lift: float = 0.0
    prompt_tokens: int = 0
    emitted_tokens: int = 0


class Ranks:
    """A policy, asked: what it has learnt, and the counters of the clients it charges."""

    def __init__(self, policy: Policy, system: NDArray[np.void]) -> None:
        self.policy = policy
        names = system.dtype.names or ()
        self.system = SystemView(**{name: system[name].tolist() for name in names})
        self.rank = plain(policy)
        self.clients: dict[int, Client] = {}

    def client(self, number: int) -> Client:
        """Return a client's counter."""
        return self.clients.setdefault(number, Client())

    def counter(self, number: int) -> float:
        """Return what a client was charged; 0 where the policy charges nothing."""
        weights = self.policy.client_weights
        if weights is None:
            return 0.0
        mine = self.client(number)
        w_in, w_out = (self.policy.parameters[name] for name in weights)
        return mine.lift + w_in * mine.prompt_tokens + w_out * mine.emitted_tokens

    def lift(self, number: int, waiting: set[int]) -> None:
        """Lift a client that returns to the lowest counter of those with waiting jobs (VTC, algorithm 2)."""
        if self.policy.client_weights and waiting and number not in waiting:
            least = min(self.counter(other) for other in waiting)
            self.client(number).lift += max(0.0, least - self.counter(number))

    def due(self, view: View, now_s: float, step: int) -> bool:
        """Say whether a job that waits is to be asked again."""
        return self.policy.rerank == "step" or view.review_s <= now_s or view.review_step <= step

    def ask(self, request: int, view: View, client: int, now_s: float, step: int) -> float:
        """Ask the policy for a job's rank."""
        self.system.now_s, self.system.step = now_s, step
        view.review_s = view.review_step = math.inf
        view.client_tokens = self.counter(client)
        rank = self.rank(view, self.system)
        if math.isnan(rank):
            raise LapsbenchError(
                f"returned NaN for request {request}", where=f"policy {self.policy.name!r}", hint="guarding divisions"
            )
        return rank


def view_of(work: Workload, setup: Setup, request: int, step: int) -> View:
    """Return what a policy sees of a request that arrives before step number `step`."""
    return View(
        arrival_s=float(work.arrival_s[request]),
        prompt_tokens=int(work.prompt_tokens[request]),
        predicted_tokens=float(work.predicted_tokens[request]),
        predicted_class=int(work.predicted_class[request]),
        predicted_rounds=float(setup.predicted_rounds[request]),
        prefill_s=float(setup.prefill_s[request]),
        priority=int(work.priority[request]),
        category=int(work.category[request]),
        own_tokens_per_round=float(setup.own_tokens_per_round[request]),
        last_run_step=step - 1,
    )
