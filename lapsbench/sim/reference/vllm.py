"""vLLM 0.32's scheduler in plain Python, as `lapsbench.vllm` finds it installed: tests hold the two to the same steps.

Its own terms: `computed` tokens of a job have their KV, or will at the end of the steps in flight; every step adds what
brings a job up to its context and drafts. Beside the step that runs, "async" has composed the next, before it knows
what the first one emits: `placeholders` count the tokens that may come.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lapsbench.policies.registry import vllms_own
from lapsbench.schedules import RECORDED
from lapsbench.sim.reference.blocks import Block, Holding, Memory
from lapsbench.sim.reference.common import Live, Twin, recorded
from lapsbench.sim.reference.common import accepted as accepted_from
from lapsbench.sim.reference.drafting import Drafts, together

if TYPE_CHECKING:
    from lapsbench.sim.reference.ranks import View


@dataclass(eq=False)
class Job(Live):
    """A job as vLLM knows it."""

    computed: int = 0
    drafts: int = 0  # that its next round will verify
    given: int = 0  # drafts, when it last was
    placeholders: int = 0
    in_flight: int = 0  # tokens in steps that have not ended
    stale: int = 0  # of these, tokens of steps composed before its memory was taken
    chunked: bool = False  # its last step did not complete its prefill
    prefilling: bool = True  # has not composed the end of its prefill, or of computing it again
    ran: bool = False  # since its rank was asked for
    parked: bool = False  # taken out by its policy, memory kept
    holding: Holding = field(default_factory=Holding)

    @property
    def urgency(self) -> tuple[int, float]:
        """What vLLM's own `priority` preempts by."""
        return self.view.priority, self.view.arrival_s


@dataclass(eq=False)
class Part:
    """What a step does for one job."""

    job: Job
    cached: int
    tokens: int
    drafts: int = 0
    padded: bool = False  # its drafts only fill up the batch: none can be accepted
    round: bool = False
    emits: bool = False
    left: int = 0  # to prefill after it
    emitted: int = 0
    given: int = 0  # drafts, of which the step may have had room for some
    next_drafts: int = 0  # for its next round


@dataclass
class Step:
    """A composed step."""

    number: int
    parts: list[Part] = field(default_factory=list)
    dropped: list[Job] = field(default_factory=list)
    drafts: int = 0  # a round, as was said when the step before it was composed
    began_s: float = 0.0
    ended_s: float = 0.0


@dataclass
class Vllm(Twin[Job]):
    """Rank, compose, run, book."""

    log: list[Step] | None = None
    """Where every step is kept, if anywhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        engine = self.engine
        self.own = vllms_own(self.policy)
        self.limit = engine.context_limit
        self.asynchronous = engine.scheduling == "async"
        self.memory = Memory(engine.kv_blocks, engine.block_tokens, caching=engine.prefix_cache)
        self.running: list[Job] = []
        self.waiting: list[Job] = []
        self.steps: deque[Step] = deque()
        self.next_drafts, self.recorded = engine.draft_tokens, engine.drafts == RECORDED

    def job(self, request: int, view: View, output_tokens: int, client: int) -> Job:
        """Return a new job."""
        return Job(request, view, output_tokens, client)

    def too_big(self, job: Job) -> bool:
        """Say whether a job's context outgrows the model, or the memory."""
        return job.view.prompt_tokens + job.output_tokens > self.limit

    def idle(self) -> bool:
        """Say whether nobody is live, and no step runs."""
        return not self.live and not self.steps

    def arrive(self, request: int) -> None:
        """Queue a request."""
        super().arrive(request)
        if request not in self.finished:
            self.waiting.append(self.live[-1])

    def take_step(self) -> None:
        """Compose a step; run the oldest one when as many are composed as there may be, or nothing more can be."""
        step = self.compose() if self.live else Step(self.step)
        if step.parts:
            self.steps.append(step)
            self.step += 1
            if self.asynchronous and len(self.steps) < 2:
                return
        if self.steps:
            self.run_step(self.steps.popleft())
        elif not step.dropped:
            self.wait()

    def wait(self) -> None:
        """Nobody can run: time goes on to the next arrival."""
        if self.next_request == len(self.work) or self.stays_outside():
            self.stopped = "stalled"
        else:
            self.now_s = float(self.work.arrival_s[self.next_request])

    # rank -----------------------------------------------------------------------------------------------------------

    def rank(self, step: Step) -> None:
        """Ask for ranks; take out running jobs that are not among the best, under a preemptive policy."""
        for job in self.live:
            if job.ran or self.ranks.due(job.view, self.now_s, self.step):
                job.ran = False
                self.rerank(job)
        if self.policy.preemptive:
            self.preempt(step)
        if self.own == "priority":
            self.waiting.sort(key=lambda job: (job.urgency, job.request))
        elif not self.own:
            self.waiting.sort(key=lambda job: job.order)

    def preempt(self, step: Step) -> None:
        """Let only the best run, in rank order. What the others hold is dropped, or kept while nobody needs it."""
        best = sorted(self.live, key=lambda job: job.order)[: self.engine.max_batch]
        for job in [job for job in self.running if job not in best]:
            self.running.remove(job)
            job.running = False
            job.preemptions += 1
            job.displaced += 1
            if self.engine.on_preempt == "keep":
                job.parked = True
            else:
                self.drop(step, job)
        for job in best:
            if job.parked:
                job.parked, job.running = False, True
                self.shield(job)
                self.running.append(job)
        self.running.sort(key=lambda job: job.order)
        parked = sorted((job for job in self.live if job.parked), key=lambda job: job.order)
        lack = sum(max(0, self.memory.blocks_of(self.room(job)) - len(job.holding.blocks)) for job in best)
        while parked and lack > self.memory.free:
            job = parked.pop()
            job.parked = False
            self.drop(step, job)

    def room(self, job: Job) -> int:
        """Tokens of memory that hold a job's context and a whole round."""
        tokens = job.context_tokens + job.placeholders + self.engine.draft_tokens + self.engine.lookahead_tokens
        return min(tokens, self.limit)

    def drop(self, step: Step, job: Job) -> None:
        """Take a job's memory, and put it in front of the queue."""
        self.memory.release(job.holding)
        job.running, job.prefilling = False, True
        job.computed = job.drafts = job.placeholders = 0
        job.stale = job.in_flight
        self.waiting.insert(0, job)
        step.dropped.append(job)

    # compose --------------------------------------------------------------------------------------------------------

    def compose(self) -> Step:
        """Give out one budget of tokens: running jobs first, then those that wait."""
        step = Step(self.step)
        self.rank(step)
        asked_out = len(step.dropped)
        self.tokens = self.slots = self.engine.batched_tokens
        self.schedule_running(step)
        if len(step.dropped) == asked_out:
            self.schedule_waiting(step)
        if step.parts:
            self.say_drafts(step)
        for part in step.parts:
            self.commit(part)
        for job in step.dropped:
            job.view.prefill_left_tokens = job.context_tokens
            if not job.running:
                job.view.prefill_left_tokens -= len(self.found(job)) * self.engine.block_tokens
        return step

    def say_drafts(self, step: Step) -> None:
        """Fix how many tokens are drafted after this step: by who is in it, prefills included."""
        jobs = [part.job for part in step.parts]
        runs = [self.next_run(part) for part in step.parts] if self.drafting.oracle else []
        drafts = self.drafting.ask(
            [job.view for job in jobs], [job.context_tokens for job in jobs], runs, self.now_s, step.number
        )
        for part, more in zip(step.parts, drafts, strict=True):
            part.next_drafts = more
        step.drafts, self.next_drafts = self.next_drafts, max(drafts)
        self.ranks.system.draft_tokens = step.drafts

    def next_run(self, part: Part) -> int:
        """Return what a job would accept after its part, as far as it is known: -1 where it does no round."""
        job = part.job
        emitted, target = job.view.emitted_tokens, job.context_tokens + job.placeholders
        if job.request in self.finished or part.cached + part.tokens < target:
            return -1
        accepted = 0 if part.padded else min(self.accept_run(job), part.drafts)
        if emitted + 1 + accepted >= job.output_tokens:
            return -1
        return accepted_from(self.work, job.request, emitted + 1 + accepted)

    def schedule_running(self, step: Step) -> None:
        """Let running jobs grow, in their order; one that lacks memory takes it from the last of them."""
        spare, place = self.engine.drafting_slots, 0
        while place < len(self.running) and self.tokens > 0 and self.slots > spare:
            job = self.running[place]
            wanted = job.context_tokens + job.drafts + job.placeholders - job.computed
            tokens = min(wanted, self.tokens, self.slots - spare, self.limit - job.computed - 1)
            if self.surely_done(job) or tokens == 0:
                place += 1
                continue
            while not self.memory.grow(job.holding, self.slots_of(job.computed + tokens)):
                victim = self.victim()
                place -= self.running.index(victim) < place
                self.evict(step, victim)
                if victim is job:
                    return
            self.name(job, job.computed + tokens)
            drafts = max(0, min(job.drafts, tokens + job.computed - job.context_tokens - job.placeholders))
            job.drafts = 0
            self.add(step, Part(job, job.computed, tokens, drafts, given=job.given))
            place += 1

    def surely_done(self, job: Job) -> bool:
        """Say whether the steps in flight emit a job's last token even if every draft of theirs is rejected."""
        end = job.view.prompt_tokens + job.output_tokens
        return job.placeholders > 0 and job.computed + 2 - job.placeholders >= end

    def victim(self) -> Job:
        """Return the running job that loses its memory."""
        if self.own == "priority":
            return max(self.running, key=lambda job: job.urgency)
        return self.running[-1]

    def evict(self, step: Step, victim: Job) -> None:
        """Take a running job out for lack of memory; what the step was to do for it is undone."""
        self.running.remove(victim)
        for part in [part for part in step.parts if part.job is victim]:
            step.parts.remove(part)
            self.tokens += part.tokens
            self.slots += part.tokens + self.engine.drafting_slots
        victim.preemptions += 1
        self.unshield(victim)
        self.drop(step, victim)

    def schedule_waiting(self, step: Step) -> None:
        """Admit waiting jobs, in their order, until one does not fit."""
        spare, k = self.engine.drafting_slots, self.engine.draft_tokens
        runs, prefills = bool(step.parts), any(part.job.chunked for part in step.parts)
        passed_over: list[Job] = []
        while self.waiting and self.tokens > 0 and self.slots > spare and len(self.running) < self.engine.max_batch:
            job = self.waiting[0]
            if job.stale:  # what it emits is still to come
                passed_over.append(self.waiting.pop(0))
                continue
            row = self.found(job)
            computed = len(row) * self.engine.block_tokens
            room = min(self.tokens, self.slots - spare)
            tokens = job.context_tokens - computed
            padded = tokens == 1 and not prefills and (runs or computed > 0) and self.pads(computed)
            if padded:
                tokens += k
                if tokens > room:
                    break
            tokens = min(tokens, room)
            if not self.fits(job, row, computed + tokens):
                break
            self.waiting.pop(0)
            self.running.append(job)
            self.memory.adopt(job.holding, row)
            self.memory.grow(job.holding, self.slots_of(computed + tokens))
            job.running, job.computed = True, computed
            self.shield(job)
            self.admit(job)
            self.name(job, computed + tokens)
            self.add(step, Part(job, computed, tokens, k if padded else 0, padded))
        self.waiting[:0] = passed_over

    def pads(self, computed: int) -> bool:
        """Whether drafts fill up a part of one token: a batch of rounds alone runs faster."""
        k = self.engine.draft_tokens
        return k > 0 and (self.recorded or not self.drafting.varies) and computed + k + 2 <= self.limit

    def found(self, job: Job) -> list[Block]:
        """Return the blocks a waiting job finds again: never its last token, and one block less under EAGLE."""
        row = self.memory.found(job.request, job.context_tokens - 1)
        return row[:-1] if self.engine.draft_method == "eagle" and self.engine.draft_tokens else row

    def fits(self, job: Job, row: list[Block], tokens: int) -> bool:
        """Say whether a waiting job's whole context fits, and the slots of this step; what it finds is free now."""
        most = max(job.context_tokens, self.slots_of(tokens))
        return max(self.memory.blocks_of(most), len(row)) <= self.memory.free

    def slots_of(self, tokens: int) -> int:
        """KV slots a job needs to have so many tokens computed."""
        return min(tokens + self.engine.lookahead_tokens, self.limit)

    def name(self, job: Job, computed: int) -> None:
        """Let the prefix cache know a job's full blocks; drafts may be rejected, and do not count."""
        self.memory.name(job.request, job.holding, min(computed, job.context_tokens))

    def add(self, step: Step, part: Part) -> None:
        """Put a job's part into the step."""
        step.parts.append(part)
        self.tokens -= part.tokens
        self.slots -= part.tokens + self.engine.drafting_slots

    def commit(self, part: Part) -> None:
        """Count a composed part as done, as far as it is sure."""
        job = part.job
        target = job.context_tokens + job.placeholders
        job.computed += part.tokens
        job.in_flight += part.tokens
        job.chunked = job.computed < target
        part.emits, part.round = not job.chunked, not job.prefilling
        part.left = max(0, target - job.computed)
        if part.emits:
            job.prefilling = False
            if self.asynchronous:
                job.placeholders += 1 + part.drafts
                job.drafts = job.given = part.next_drafts

    # run and book ---------------------------------------------------------------------------------------------------

    def run_step(self, step: Step) -> None:
        """Let time pass, and book what the step did."""
        step.began_s = self.now_s
        contexts = [part.job.context_tokens for part in step.parts if part.round]
        chunks = [(part.tokens, part.cached) for part in step.parts if not part.round]
        drafts = Drafts(step.drafts, step.drafts)
        if self.drafting.for_each and contexts:
            drafts = together([part.given for part in step.parts if part.round])
            if self.recorded:  # who looks for drafts does so whether there are any or not
                drafts = Drafts(step.drafts, drafts.mean)
        price_s = self.prices.step(len(step.parts), contexts, chunks, most=drafts.most, mean=drafts.mean)
        self.now_s += price_s
        step.ended_s = self.now_s
        progress = [self.book(step, part) for part in step.parts]
        self.tally(len(contexts), price_s)
        self.idle_steps = 0 if any(progress) else self.idle_steps + 1
        if self.log is not None:
            self.log.append(step)

    def book(self, step: Step, part: Part) -> bool:
        """Book what a step did for one job, and say whether it got anywhere."""
        job, view = part.job, part.job.view
        job.in_flight -= part.tokens
        stale = job.stale > 0
        job.stale -= part.tokens if stale else 0
        if job.request in self.finished:  # composed before that was known
            return False
        progress = self.count(job, part)
        if part.emits:
            accepted = 0 if part.padded else min(self.accept_run(job), part.drafts)
            if not stale:
                job.computed -= part.drafts - accepted
                job.placeholders -= part.drafts - accepted if self.asynchronous else 0
            part.emitted = min(1 + accepted, job.output_tokens - view.emitted_tokens)
            if part.round:
                self.learn(job, part.drafts, accepted)
                view.rounds += 1
                view.accepted_tokens += part.emitted - 1
            elif view.emitted_tokens:
                job.resumes += part.emitted
            self.emit(job, part.emitted)
            if self.asynchronous and not stale:
                job.placeholders -= part.emitted
                self.memory.name(job.request, job.holding, job.computed - job.placeholders)
            elif not self.asynchronous and not job.chunked:
                job.drafts = job.given = self.next_of(job, part)
        view.prefill_left_tokens = view.prefill_left_tokens + part.emitted if stale else part.left
        view.attained_s += step.ended_s - step.began_s
        view.last_run_s, view.last_run_step, job.ran = self.now_s, step.number, True
        if view.emitted_tokens == job.output_tokens:
            self.leave(job)
        return progress

    def next_of(self, job: Job, part: Part) -> int:
        """Return the drafts of a job's next round: as recorded, or as was said when this step was composed."""
        if not self.recorded:
            return part.next_drafts
        found = recorded(self.work, self.work.drafted, job.request, job.view.emitted_tokens)
        return min(found, self.engine.draft_tokens)

    def count(self, job: Job, part: Part) -> bool:
        """Count prefill that was done before, and say whether any was new."""
        end = job.context_tokens if part.round else min(part.cached + part.tokens, job.context_tokens)
        job.recomputed_tokens += max(0, min(end, job.peak_tokens) - part.cached) if not part.round else 0
        progress = end > job.peak_tokens or part.emits
        job.peak_tokens = max(job.peak_tokens, end)
        return progress

    def leave(self, job: Job) -> None:
        """Let a finished job go, and free its memory."""
        super().leave(job)
        self.memory.release(job.holding)
        for queue in (self.running, self.waiting):
            if job in queue:
                queue.remove(job)
