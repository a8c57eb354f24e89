"""What both engines have in common, in plain Python: arrivals, emission, and what became of whom.

A rule set is a subclass that says how a step is made up. The price tables are shared with the kernel (`sim/cost.py`,
tested on its own), and nothing else.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from lapsbench.core import DRAFTED, FINISHED, REJECTED, TALLY, UNFINISHED, Engine, Outcome, Policy, Workload
from lapsbench.drafts.registry import find
from lapsbench.policies.past import Past
from lapsbench.policies.uses import reads
from lapsbench.sim.reference.drafting import Drafting
from lapsbench.sim.reference.prices import Prices
from lapsbench.sim.reference.ranks import Ranks, View, view_of

if TYPE_CHECKING:
    from lapsbench.core import Bytes
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup


LOWEST = float(np.finfo(np.float64).min)
"""Below this there is only the rank of a job that may not be preempted any more."""
NS = 1e9


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
    displaced: int = 0
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
        self.prices = Prices(self.costs, self.engine)
        self.drafting = Drafting(self.engine, self.prices)
        self.past = Past()
        self.limited = math.isfinite(self.policy.preempt)
        self.shows = {name: reads(self.policy, name) for name in ("resume_s", "waiting", "backlog_s", "past_ratio")}
        drafts = self.engine.drafts
        self.counts_drafts = bool(drafts) and any(reads(find(drafts), name) for name in DRAFTED)
        self.finished: dict[int, tuple[Live, int, float]] = {}
        self.rounds = [0, 0]  # of the step: drafts verified, and accepted
        self.by_batch = np.zeros((self.engine.max_batch + 1, len(TALLY)))
        self.by_drafts_s = np.zeros((self.engine.max_batch + 1, self.engine.draft_tokens + 1))

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
        """Let every arrival with a <= t become live; jump to the next one if nothing is live.

        False: nothing left, or no room for one more.
        """
        while True:
            while self.next_request < len(self.work) and self.work.arrival_s[self.next_request] <= self.now_s:
                if self.stays_outside():
                    break
                if len(self.live) >= self.setup.live_most:
                    self.stopped = "crowded"
                    return False
                self.arrive(self.next_request)
                self.next_request += 1
            if not self.idle():
                return True
            if self.next_request == len(self.work):
                return False
            self.now_s = float(self.work.arrival_s[self.next_request])

    def stays_outside(self) -> bool:
        """Say whether so many wait that who arrives must do so elsewhere."""
        return sum(not job.running for job in self.live) >= self.setup.wait_most

    def arrive(self, request: int) -> None:
        """Make a request live, unless it can never fit."""
        work = self.work
        view = view_of(work, self.setup, request, self.step)
        if self.shows["past_ratio"]:
            view.past_ratio = self.past.ratio(view.prompt_tokens)
        job = self.job(request, view, int(work.output_tokens[request]), int(work.client[request]))
        if self.too_big(job):
            self.finished[request] = (job, REJECTED, math.nan)
            return
        self.ranks.lift(job.client, {other.client for other in self.live if not other.running})
        self.rerank(job)
        self.live.append(job)

    def rerank(self, job: Job) -> None:
        """Ask the policy for a job's rank; a running job that may not be preempted any more goes before all others."""
        self.show(job)
        rank = self.ranks.ask(job.request, job.view, job.client, self.now_s, self.step)
        job.rank = max(rank, LOWEST) if self.limited else rank
        self.shield(job)

    def show(self, job: Job) -> None:
        """Show the policy what it reads beside the job: who waits, and what preempting costs."""
        if self.shows["resume_s"]:
            done = job.context_tokens - job.view.prefill_left_tokens
            job.view.resume_s = self.prices.resume(self.engine, done) if job.running else 0.0
        if self.shows["waiting"] or self.shows["backlog_s"]:
            waiting = [other.view for other in self.live if not other.running]
            self.ranks.system.waiting = len(waiting)
            self.ranks.system.backlog_s = sum(self.work_ns(view) for view in waiting) / NS

    def work_ns(self, view: View) -> int:
        """Return a job's predicted engine time: whole nanoseconds, so that the order of adding is no matter."""
        prompt_s = view.prefill_s * view.prefill_left_tokens / view.prompt_tokens
        left = max(view.predicted_tokens - view.emitted_tokens, 0.0)
        return int((prompt_s + left * self.setup.token_s) * NS)

    def shield(self, job: Job) -> None:
        """Put a running job that was preempted as often as may be before all others."""
        if self.limited and job.running and job.displaced >= self.policy.preempt:
            job.rank = -math.inf

    def unshield(self, job: Job) -> None:
        """Memory took a job's place: its policy ranks it among the waiting."""
        if job.rank == -math.inf and self.limited:
            job.view.review_s = min(job.view.review_s, self.now_s)

    def admit(self, job: Job) -> None:
        """Note a job's first step."""
        if math.isnan(job.admitted_s):
            job.admitted_s = self.now_s
            self.ranks.client(job.client).prompt_tokens += job.view.prompt_tokens

    # progress -------------------------------------------------------------------------------------------------------

    def accept_run(self, job: Job) -> int:
        """Drafts the target would accept now."""
        return accepted(self.work, job.request, job.view.emitted_tokens)

    def learn(self, job: Job, drafts: int, accepted: int) -> None:
        """Note how many drafts a round had, and how many were accepted."""
        self.drafting.learn(drafts, accepted)
        self.rounds = [self.rounds[0] + drafts, self.rounds[1] + accepted]
        if self.counts_drafts:
            job.view.tried_tokens += min(accepted + 1, drafts)
            job.view.drafted_tokens += drafts

    def tally(self, decoding: int, dt: float) -> None:
        """Count a step that has ended by how many did a round in it, where drafts vary."""
        if not self.drafting.varies:
            return
        self.by_batch[decoding] += [1.0, *self.rounds, self.prices.draft_s, dt]
        if decoding:
            self.by_drafts_s[decoding, (2 * self.rounds[0] + decoding) // (2 * decoding)] += dt
        self.rounds = [0, 0]

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
        if self.shows["past_ratio"]:
            self.past.learn(job.view.prompt_tokens, job.view.predicted_tokens, job.output_tokens)

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
            by_batch=self.by_batch,
            by_drafts_s=self.by_drafts_s,
        )


def accepted(work: Workload, request: int, emitted_tokens: int) -> int:
    """Drafts the target would accept after so many tokens."""
    return recorded(work, work.accept_runs, request, emitted_tokens)


def recorded(work: Workload, values: Bytes, request: int, emitted_tokens: int) -> int:
    """Return what was recorded after so many tokens: of the recording, then of circular blocks of it."""
    start, length = int(work.recording_start[request]), int(work.recording_tokens[request])
    block, place = divmod(emitted_tokens, length)
    place = (place + block * int(work.recording_shift[request])) % length
    return int(values[start + place])
