"""The step model of docs/model.md in plain Python: slow, obvious, and right where the kernel disagrees.

One class per noun, one method per sentence of the page. It shares the price tables with the kernel (`sim/cost.py`,
tested on its own) and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import FINISHED, REJECTED, SCRATCH, UNFINISHED, Engine, Outcome, Policy, Workload
from lapsbench.errors import LapsbenchError
from lapsbench.policies.binding import plain
from lapsbench.sim.cost import DRAFT, DRAFT_PREFILL, OVERHEAD, PREFILL, SWAP_IN, SWAP_OUT, VERIFY

if TYPE_CHECKING:
    from lapsbench.core import Floats
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup


class View:
    """The job as its policy sees it: `core.JOB`, in plain Python."""

    def __init__(self, request: int, work: Workload, setup: Setup, step: int) -> None:
        self.arrival_s = float(work.arrival_s[request])
        self.predicted_tokens = float(work.predicted_tokens[request])
        self.predicted_rounds = float(setup.predicted_rounds[request])
        self.prefill_s = float(setup.prefill_s[request])
        self.attained_s = 0.0
        self.last_run_s = self.arrival_s
        self.review_s = math.inf
        self.client_tokens = 0.0
        self.review_step = math.inf
        self.last_run_step = step - 1
        self.prompt_tokens = int(work.prompt_tokens[request])
        self.predicted_class = int(work.predicted_class[request])
        self.prefill_left_tokens = self.prompt_tokens
        self.emitted_tokens = 0
        self.rounds = 0
        self.accepted_tokens = 0
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
class Live:
    """One live job, with what its policy may not see."""

    request: int
    view: View
    output_tokens: int
    client: int
    rank: float = 0.0
    running: bool = False
    resident: bool = False
    swapped: bool = False
    cached_tokens: int = 0
    peak_tokens: int = 0
    admitted_s: float = math.nan
    first_token_s: float = math.nan
    last_emit_s: float = math.nan
    itl_max_s: float = math.nan
    preemptions: int = 0
    recomputed_tokens: int = 0

    @property
    def context_tokens(self) -> int:
        """Prompt and emitted tokens."""
        return self.view.prompt_tokens + self.view.emitted_tokens

    @property
    def order(self) -> tuple[float, int]:
        """(rank, arrival, index): requests are numbered by arrival, so the number breaks ties as arrival would."""
        return self.rank, self.request


@dataclass
class Client:
    """A client's virtual token counter: lift + w_in * prompt tokens + w_out * emitted tokens."""

    lift: float = 0.0
    prompt_tokens: int = 0
    emitted_tokens: int = 0


@dataclass
class Step:
    """What one step is made of."""

    batch: list[Live]
    decoding: list[Live]
    chunks: list[tuple[Live, int]]
    swap_s: float = 0.0


@dataclass
class Twin:
    """One replay of one policy."""

    work: Workload
    engine: Engine
    policy: Policy
    costs: StepCosts
    setup: Setup
    now_s: float = 0.0
    step: int = 0
    next_request: int = 0
    live: list[Live] = field(default_factory=list)
    lookups: int = 0
    lookups_beyond: int = 0
    idle_steps: int = 0
    stopped: str = ""

    def __post_init__(self) -> None:
        system = self.setup.system[0]
        names = system.dtype.names or ()
        self.system = SystemView(**{name: system[name].tolist() for name in names})
        self.rank = plain(self.policy)
        self.clients = [Client() for _ in range(self.work.clients)]
        self.finished: dict[int, tuple[Live, int, float]] = {}

    # 1. arrivals ----------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Take steps until every request has left, or it is no use: nothing moves any more, or ever so slowly."""
        while self.arrivals():
            batch = self.select()
            step = self.fill(batch)
            dt = self.price(step)
            self.advance(step, dt)
            if self.idle_steps > self.setup.stall_steps:
                self.stopped = "stalled"
                break
            if self.now_s > self.setup.stop_s:
                self.stopped = "overrun"
                break
        return self.outcome()

    def arrivals(self) -> bool:
        """Let every arrival with a <= t become live; jump to the next one if nothing is live. False: nothing left."""
        while True:
            while self.next_request < len(self.work) and self.work.arrival_s[self.next_request] <= self.now_s:
                self.arrive(self.next_request)
                self.next_request += 1
            if self.live:
                return True
            if self.next_request == len(self.work):
                return False
            self.now_s = float(self.work.arrival_s[self.next_request])

    def arrive(self, request: int) -> None:
        """Make a request live, unless it can never fit."""
        job = Live(
            request,
            View(request, self.work, self.setup, self.step),
            int(self.work.output_tokens[request]),
            int(self.work.client[request]),
        )
        most = job.view.prompt_tokens + job.output_tokens + self.engine.draft_tokens
        if 0 < self.engine.kv_tokens < most:
            self.finished[request] = (job, REJECTED, math.nan)
            return
        if self.policy.client_weights:
            self.lift(job.client)
        self.live.append(job)
        self.rerank(job)

    def lift(self, client: int) -> None:
        """Lift a client that returns to the lowest counter of those with waiting jobs (VTC, algorithm 2)."""
        waiting = {job.client for job in self.live if not job.running}
        if waiting and client not in waiting:
            least = min(self.counter(other) for other in waiting)
            self.clients[client].lift += max(0.0, least - self.counter(client))

    def counter(self, client: int) -> float:
        """Return a client's virtual token counter; 0 where the policy charges nothing."""
        weights = self.policy.client_weights
        if weights is None:
            return 0.0
        mine = self.clients[client]
        w_in, w_out = (self.policy.parameters[name] for name in weights)
        return mine.lift + w_in * mine.prompt_tokens + w_out * mine.emitted_tokens

    # 2. select ------------------------------------------------------------------------------------------------------

    def rerank(self, job: Live) -> None:
        """Ask the policy for a job's rank."""
        view = job.view
        self.system.now_s, self.system.step = self.now_s, self.step
        view.review_s = view.review_step = math.inf
        view.client_tokens = self.counter(job.client)
        job.rank = self.rank(view, self.system)
        if math.isnan(job.rank):
            raise LapsbenchError(
                f"returned NaN for request {job.request}",
                where=f"policy {self.policy.name!r}",
                hint="guarding divisions",
            )

    def select(self) -> list[Live]:
        """Order live jobs, take the first that fit, preempt the rest."""
        for job in self.live:
            due = job.view.review_s <= self.now_s or job.view.review_step <= self.step
            if job.running or due or self.policy.rerank == "step":
                self.rerank(job)
        ordered = sorted(self.live, key=lambda job: (not self.policy.preemptive and not job.running, job.order))
        chosen: list[Live] = []
        used = 0
        for job in ordered:
            if len(chosen) == self.engine.max_batch:
                break
            if self.fits(used + self.held(job)):
                chosen.append(job)
                used += self.held(job)
        return chosen

    def held(self, job: Live) -> int:
        """KV tokens a resident job holds."""
        return job.context_tokens + self.engine.draft_tokens + 1

    def fits(self, tokens: int) -> bool:
        """Say whether so many tokens fit into KV memory."""
        return self.engine.kv_tokens == 0 or tokens <= self.engine.kv_tokens

    def swap(self, chosen: list[Live]) -> float:
        """Preempt the running jobs that were not chosen, resume those that were, evict what no longer fits."""
        picked = {job.request for job in chosen}
        swap_s = 0.0
        for job in sorted(self.live, key=lambda job: job.request):
            if job.running and job.request not in picked:
                job.running = False
                job.preemptions += 1
                if self.engine.on_preempt == "recompute":
                    self.evict(job)
                elif self.engine.on_preempt == "swap" and job.cached_tokens > 0:
                    swap_s += self.step_price(SWAP_OUT, 1, job.cached_tokens)
                    job.swapped, job.resident = True, False
                elif self.engine.on_preempt == "swap":
                    job.resident = False
        for job in sorted(chosen, key=lambda job: job.request):
            if job.swapped:
                swap_s += self.step_price(SWAP_IN, 1, job.cached_tokens)
                job.swapped = False
            job.resident = True
        spare = sorted((job for job in self.live if job.resident and job.request not in picked), key=lambda j: j.order)
        total = sum(self.held(job) for job in chosen) + sum(self.held(job) for job in spare)
        while spare and not self.fits(total):
            worst = spare.pop()
            total -= self.held(worst)
            self.evict(worst)
        return swap_s

    def evict(self, job: Live) -> None:
        """Drop a job's KV: it must prefill its prompt and what it has emitted again."""
        job.resident = False
        job.recomputed_tokens += job.cached_tokens
        job.cached_tokens = 0
        job.view.prefill_left_tokens = job.context_tokens

    # 3. fill --------------------------------------------------------------------------------------------------------

    def fill(self, chosen: list[Live]) -> Step:
        """Give out the prefill budget in rank order; jobs whose prefill was complete do a round."""
        step = Step(sorted(chosen, key=lambda job: job.order), [], [], self.swap(chosen))
        budget = self.engine.prefill_budget or math.inf
        for job in step.batch:
            if not job.running and math.isnan(job.admitted_s):
                job.admitted_s = self.now_s
                self.clients[job.client].prompt_tokens += job.view.prompt_tokens
            job.running = True
            if job.view.prefill_left_tokens == 0:
                step.decoding.append(job)
            elif budget > 0:
                tokens = int(min(job.view.prefill_left_tokens, budget))
                budget -= tokens
                step.chunks.append((job, tokens))
        return step

    # 4. price -------------------------------------------------------------------------------------------------------

    def price(self, step: Step) -> float:
        """Return the seconds the step takes."""
        k, m = self.engine.draft_tokens, len(step.decoding)
        overhead = self.step_price(OVERHEAD, len(step.batch), 0)
        draft = verify = work = 0.0
        if m > 0:
            context = sum(job.context_tokens for job in step.decoding) / m
            if k > 0:
                draft = self.step_price(DRAFT, m, context)
            verify = self.step_price(VERIFY, m, context)
        for number, (job, tokens) in enumerate(step.chunks):
            shared = m > 0 or number > 0
            work += self.chunk_price(PREFILL, tokens, job.cached_tokens, shared=shared)
            if k > 0:
                work += self.chunk_price(DRAFT_PREFILL, tokens, job.cached_tokens, shared=shared)
        return overhead + draft + verify + work + step.swap_s

    def step_price(self, component: int, batch: int, context: float) -> float:
        """Look a component up, and count whether that was beyond the measured grid."""
        self.lookups += 1
        self.lookups_beyond += int(context > self.costs.step_limit[component, batch])
        return max(0.0, interpolate(self.costs.context, self.costs.step_s[component, batch], context))

    def chunk_price(self, component: int, tokens: int, cached: int, *, shared: bool) -> float:
        """Price a prefill chunk; one that shares its pass over the weights pays only what it adds."""
        self.lookups += 1
        most_tokens, most_cached = self.costs.chunk_limit[component]
        self.lookups_beyond += int(tokens > most_tokens or cached > most_cached)
        full = chunk_time(self.costs, component, tokens, cached)
        return max(0.0, full - chunk_time(self.costs, component, 1, 0)) if shared else full

    # 5. advance -----------------------------------------------------------------------------------------------------

    def advance(self, step: Step, dt: float) -> None:
        """Move the clock, emit tokens, let finished jobs leave."""
        self.now_s += dt
        progress = bool(step.decoding)
        for job, tokens in step.chunks:
            view = job.view
            view.prefill_left_tokens -= tokens
            job.cached_tokens += tokens
            progress |= job.cached_tokens > job.peak_tokens
            job.peak_tokens = max(job.peak_tokens, job.cached_tokens)
            if view.prefill_left_tokens == 0 and view.emitted_tokens == 0:
                job.first_token_s = self.now_s
                self.emit(job, 1)
        for job in step.decoding:
            wanted = min(self.accept_run(job), self.engine.draft_tokens) + 1
            tokens = min(wanted, job.output_tokens - job.view.emitted_tokens)
            job.view.rounds += 1
            job.view.accepted_tokens += tokens - 1
            self.emit(job, tokens)
        for job in step.batch:
            job.view.attained_s += dt
            job.view.last_run_s = self.now_s
            job.view.last_run_step = self.step
            if job.view.emitted_tokens == job.output_tokens:
                self.finished[job.request] = (job, FINISHED, self.now_s)
                self.live.remove(job)
        self.step += 1
        self.idle_steps = 0 if progress else self.idle_steps + 1

    def accept_run(self, job: Live) -> int:
        """Drafts the target would accept now: the recording from its start, then circular blocks of it."""
        start = int(self.work.recording_start[job.request])
        length = int(self.work.recording_tokens[job.request])
        block, place = divmod(job.view.emitted_tokens, length)
        place = (place + block * int(self.work.recording_shift[job.request])) % length
        return int(self.work.accept_runs[start + place])

    def emit(self, job: Live, tokens: int) -> None:
        """Book emitted tokens and the gap since the last ones."""
        job.view.emitted_tokens += tokens
        self.clients[job.client].emitted_tokens += tokens
        job.cached_tokens = job.context_tokens
        job.peak_tokens = max(job.peak_tokens, job.cached_tokens)
        gap = self.now_s - job.last_emit_s
        if not math.isnan(gap):
            job.itl_max_s = gap if math.isnan(job.itl_max_s) else max(job.itl_max_s, gap)
        job.last_emit_s = self.now_s

    def outcome(self) -> Outcome:
        """Collect what became of every request."""
        n = len(self.work)
        jobs = {job.request: (job, UNFINISHED, math.nan) for job in self.live} | self.finished
        rows = [
            jobs.get(i) or (Live(i, View(i, self.work, self.setup, 0), 0, 0), UNFINISHED, math.nan) for i in range(n)
        ]
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
            lookups=self.lookups,
            lookups_beyond=self.lookups_beyond,
            stopped=self.stopped,
        )


def replay(work: Workload, engine: Engine, policy: Policy, costs: StepCosts, setup: Setup) -> Outcome:
    """Replay one policy. Same arguments and same result, bit for bit, as `kernel.replay`."""
    return Twin(work, engine, policy, costs, setup).run()


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
