"""What both engines have in common, in plain Python: arrivals, ranks, prices, emission, and what became of whom.

A rule set is a subclass that says how a step is made up. The price tables are shared with the kernel (`sim/cost.py`,
tested on its own), and nothing else.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from lapsbench.core import FINISHED, REJECTED, SCRATCH, UNFINISHED, Engine, Outcome, Policy, Workload
from lapsbench.errors import LapsbenchError
from lapsbench.policies.binding import plain
from lapsbench.sim.cost import DRAFT, DRAFT_PREFILL, OVERHEAD, PREFILL, VERIFY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from lapsbench.core import Floats
    from lapsbench.sim.cost import StepCosts
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
    mean_service_s: float
    service_p20_s: float
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


@dataclass(eq=False)
class Live:
    """One live job, with what its policy may not see."""

    request: int
    view: View
    output_tokens: int
    client: int
    rank: float = 0.0
    running: bool = False
    peak_tokens: int = 0
    admitted_s: float = math.nan
    first_token_s: float = math.nan
    last_emit_s: float = math.nan
    itl_max_s: float = math.nan
    preemptions: int = 0
    recomputed_tokens: int = 0
    resumes: int = 0

    @property
    def context_tokens(self) -> int:
        """Prompt and emitted tokens."""
        return self.view.prompt_tokens + self.view.emitted_tokens

    @property
    def order(self) -> tuple[float, int]:
        """(rank, arrival, index): requests are numbered by arrival, so the number breaks ties as arrival would."""
        return self.rank, self.request


class Prices:
    """What a step costs, and how many look-ups were beyond the measured grid."""

    def __init__(self, costs: StepCosts, draft_tokens: int) -> None:
        self.costs, self.draft_tokens = costs, draft_tokens
        self.lookups = self.lookups_beyond = 0

    def step(self, batch: int, contexts: list[int], chunks: Iterable[tuple[int, int]], swap_s: float = 0.0) -> float:
        """Return the seconds of a step: contexts of jobs that do a round, (tokens, cached) of those that prefill."""
        k, m = self.draft_tokens, len(contexts)
        overhead = self.part(OVERHEAD, batch, 0)
        draft = verify = work = 0.0
        if m > 0:
            context = sum(contexts) / m
            if k > 0:
                draft = self.part(DRAFT, m, context)
            verify = self.part(VERIFY, m, context)
        for number, (tokens, cached) in enumerate(chunks):
            shared = m > 0 or number > 0
            work += self.chunk(PREFILL, tokens, cached, shared=shared)
            if k > 0:
                work += self.chunk(DRAFT_PREFILL, tokens, cached, shared=shared)
        return overhead + draft + verify + work + swap_s

    def part(self, component: int, batch: int, context: float) -> float:
        """Look a component up, and count whether that was beyond the measured grid."""
        self.lookups += 1
        self.lookups_beyond += int(context > self.costs.step_limit[component, batch])
        return max(0.0, interpolate(self.costs.context, self.costs.step_s[component, batch], context))

    def chunk(self, component: int, tokens: int, cached: int, *, shared: bool) -> float:
        """Price a prefill chunk; one that shares its pass over the weights pays only what it adds."""
        self.lookups += 1
        most_tokens, most_cached = self.costs.chunk_limit[component]
        self.lookups_beyond += int(tokens > most_tokens or cached > most_cached)
        full = chunk_time(self.costs, component, tokens, cached)
        return max(0.0, full - chunk_time(self.costs, component, 1, 0)) if shared else full


Job = TypeVar("Job", bound=Live)


@dataclass
class Twin(ABC, Generic[Job]):
    """One replay of one policy. What differs between engines is a subclass's."""

    work: Workload
    engine: Engine
    policy: Policy
    costs: StepCosts
    setup: Setup
    now_s: float = 0.0
    step: int = 0
    next_request: int = 0
    live: list[Job] = field(default_factory=list)
    idle_steps: int = 0
    stopped: str = ""

    def __post_init__(self) -> None:
        self.ranks = Ranks(self.policy, self.setup.system[0])
        self.prices = Prices(self.costs, self.engine.draft_tokens)
        self.finished: dict[int, tuple[Live, int, float]] = {}

    def run(self) -> Outcome:
        """Take steps until every request has left, or it is no use: nothing moves any more, or ever so slowly."""
        while not self.stopped and self.arrivals():
            self.take_step()
            if self.idle_steps > self.setup.stall_steps:
                self.stopped = "stalled"
            elif self.now_s > self.setup.stop_s:
                self.stopped = "overrun"
        return self.outcome()

    # the rules of an engine -----------------------------------------------------------------------------------------

    @abstractmethod
    def take_step(self) -> None:
        """Choose, run and book one step."""

    @abstractmethod
    def job(self, request: int, view: View, output_tokens: int, client: int) -> Job:
        """Return a new job."""

    @abstractmethod
    def too_big(self, job: Job) -> bool:
        """Say whether a job could never finish."""

    def idle(self) -> bool:
        """Say whether the engine has nothing to do."""
        return not self.live

    # arrivals -------------------------------------------------------------------------------------------------------

    def arrivals(self) -> bool:
        """Let every arrival with a <= t become live; jump to the next one if nothing is live. False: nothing left."""
        while True:
            while self.next_request < len(self.work) and self.work.arrival_s[self.next_request] <= self.now_s:
                self.arrive(self.next_request)
                self.next_request += 1
            if not self.idle():
                return True
            if self.next_request == len(self.work):
                return False
            self.now_s = float(self.work.arrival_s[self.next_request])

    def arrive(self, request: int) -> None:
        """Make a request live, unless it can never fit."""
        work = self.work
        view = view_of(work, self.setup, request, self.step)
        job = self.job(request, view, int(work.output_tokens[request]), int(work.client[request]))
        if self.too_big(job):
            self.finished[request] = (job, REJECTED, math.nan)
            return
        self.ranks.lift(job.client, {other.client for other in self.live if not other.running})
        self.live.append(job)
        self.rerank(job)

    def rerank(self, job: Job) -> None:
        """Ask the policy for a job's rank."""
        job.rank = self.ranks.ask(job.request, job.view, job.client, self.now_s, self.step)

    def admit(self, job: Job) -> None:
        """Note a job's first step."""
        if math.isnan(job.admitted_s):
            job.admitted_s = self.now_s
            self.ranks.client(job.client).prompt_tokens += job.view.prompt_tokens

    # progress -------------------------------------------------------------------------------------------------------

    def accept_run(self, job: Job) -> int:
        """Drafts the target would accept now: the recording from its start, then circular blocks of it."""
        start = int(self.work.recording_start[job.request])
        length = int(self.work.recording_tokens[job.request])
        block, place = divmod(job.view.emitted_tokens, length)
        place = (place + block * int(self.work.recording_shift[job.request])) % length
        return int(self.work.accept_runs[start + place])

    def emit(self, job: Job, tokens: int) -> None:
        """Book emitted tokens and the gap since the last ones."""
        if job.view.emitted_tokens == 0:
            job.first_token_s = self.now_s
        job.view.emitted_tokens += tokens
        self.ranks.client(job.client).emitted_tokens += tokens
        gap = self.now_s - job.last_emit_s
        if not math.isnan(gap):
            job.itl_max_s = gap if math.isnan(job.itl_max_s) else max(job.itl_max_s, gap)
        job.last_emit_s = self.now_s

    def leave(self, job: Job) -> None:
        """Let a finished job go."""
        self.finished[job.request] = (job, FINISHED, self.now_s)
        self.live.remove(job)

    def outcome(self) -> Outcome:
        """Collect what became of every request."""
        jobs: dict[int, tuple[Live, int, float]] = {job.request: (job, UNFINISHED, math.nan) for job in self.live}
        jobs |= self.finished
        rows = [jobs.get(i) or (Live(i, View(0.0, 0, 0.0), 0, 0), UNFINISHED, math.nan) for i in range(len(self.work))]
        return Outcome(
            admitted_s=np.array([job.admitted_s for job, _, _ in rows]),
            first_token_s=np.array([job.first_token_s for job, _, _ in rows]),
            finished_s=np.array([finished for _, _, finished in rows]),
            rounds=np.array([job.view.rounds for job, _, _ in rows], dtype=np.int32),
            accepted_tokens=np.array([job.view.accepted_tokens for job, _, _ in rows], dtype=np.int32),
            preemptions=np.array([job.preemptions for job, _, _ in rows], dtype=np.int32),
            recomputed_tokens=np.array([job.recomputed_tokens for job, _, _ in rows], dtype=np.int64),
            status=np.array([status for _, status, _ in rows], dtype=np.uint8),
            itl_max_s=np.array([job.itl_max_s for job, _, _ in rows]),
            alone_s=self.setup.alone_s,
            steps=self.step,
            makespan_s=self.now_s,
            lookups=self.prices.lookups,
            lookups_beyond=self.prices.lookups_beyond,
            stopped=self.stopped,
            resumes=np.array([job.resumes for job, _, _ in rows], dtype=np.int32),
        )


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
        last_run_step=step - 1,
    )


def interpolate(knots: Floats, values: Floats, x: float) -> float:
    """Piecewise linear: constant below the first knot (and with one), linear continuation beyond the last."""
    if len(knots) == 1 or x <= knots[0]:
        return float(values[0])
    left = max(i for i in range(len(knots) - 1) if knots[i] <= x)
    fraction = (x - float(knots[left])) / float(knots[left + 1] - knots[left])
    return float(values[left]) + fraction * float(values[left + 1] - values[left])


def chunk_time(costs: StepCosts, component: int, tokens: int, cached: int) -> float:
    """Prefill time of `tokens` new tokens over `cached` ones: along cached tokens first, then along new ones."""
    lines = np.array([interpolate(costs.cached, row, cached) for row in costs.chunk_s[component]])
    return max(0.0, interpolate(costs.query, lines, tokens))
