"""The `ideal` engine for real: its rules compose every step, our decoder does it, and it takes the time it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lapsbench.serving.executor import Part
from lapsbench.serving.log import Row
from lapsbench.sim.reference.ideal import Ideal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.serving.clock import Clock
    from lapsbench.serving.executor import Executor
    from lapsbench.serving.log import StepLog
    from lapsbench.sim.reference.ideal import Job, Step


class Server(Ideal):
    """Serves a workload open loop.

    Args:
        ready: what a replay takes: workload, engine, policy, costs, set-up.
        executor: what does the steps.
        prompts: of every request.
        clock: what time it is.
        log: where every step is told.
        imposed: acceptance as the workload's recordings say; else the target's own word.
        positions: tokens a sequence may have.
    """

    def __init__(
        self,
        *ready: Any,
        executor: Executor,
        prompts: Sequence[list[int]],
        clock: Clock,
        log: StepLog,
        imposed: bool,
        positions: int,
    ) -> None:
        super().__init__(*ready)
        self.executor, self.prompts, self.clock, self.log = executor, prompts, clock, log
        self.imposed, self.positions = imposed, positions
        self.stands: dict[int, int] = {}
        self.gone: list[int] = []

    # the clock decides who has arrived, and what a step took ---------------------------------------------------------

    def arrivals(self) -> bool:
        """Let in who has arrived; if nobody is there, let time pass until somebody is. False: nobody is left."""
        while True:
            self.now_s = self.clock.hold()
            while self.next_request < len(self.work) and self.work.arrival_s[self.next_request] <= self.now_s:
                self.arrive(self.next_request)
                self.next_request += 1
            if self.live or self.next_request == len(self.work):
                return bool(self.live)
            self.clock.idle_until(float(self.work.arrival_s[self.next_request]))

    def arrive(self, request: int) -> None:
        """Note an arrival, and one that is refused."""
        super().arrive(request)
        job = next((job for job in self.live[-1:] if job.request == request), None)
        seen = job or self.finished[request][0]
        self.log.arrived(request, str(request), vars(seen.view))
        if job is None:
            self.log.left(request, "rejected", self.now_s)
        else:
            self.executor.add(request, self.prompts[request], job.output_tokens)

    def too_big(self, job: Job) -> bool:
        """Say whether a request is too long for the memory or for the model."""
        longest = job.view.prompt_tokens + job.output_tokens + self.engine.draft_tokens
        return super().too_big(job) or longest > self.positions

    def take_step(self) -> None:
        """Take a step as the rules want it, and write it down."""
        before = {job.request: (job.preemptions, job.view.emitted_tokens) for job in self.live}
        step, start_s, number = self.fill(self.select()), self.now_s, self.step
        self.draft(step)
        self.log.composed(number, start_s, self.rows(step, before))
        taking = list(self.live)
        self.advance(step, self.price(step))
        self.log.ran(self.now_s, {job.request: job.view.emitted_tokens - before[job.request][1] for job in taking})
        for request in self.gone:
            self.log.left(request, "finished", self.now_s)
        self.gone.clear()

    def price(self, step: Step) -> float:
        """Do the step; return the seconds since it was composed."""
        self.clock.release()
        rounds = [job.request for job in step.decoding]
        parts = [Part(job.request, tokens) for job, tokens in step.chunks]
        recorded = [self.accept_run(job) for job in step.decoding] if self.imposed else None
        self.executor.seat([job.request for job in step.batch])
        self.stands = dict(zip(rounds, self.executor.step(rounds, parts, step.drafts, recorded), strict=True))
        return self.clock() - self.now_s

    def accepted(self, job: Job, drafts: int) -> int:
        """Return how many drafts the target accepted, or was told to."""
        return super().accepted(job, drafts) if self.imposed else self.stands[job.request]

    def evict(self, job: Job) -> None:
        """Forget a job's keys and values."""
        super().evict(job)
        self.executor.evict(job.request)

    def leave(self, job: Job) -> None:
        """Let a finished job go."""
        super().leave(job)
        self.executor.evict(job.request)
        self.gone.append(job.request)

    # what the log says -----------------------------------------------------------------------------------------------

    def rows(self, step: Step, before: dict[int, tuple[int, int]]) -> list[Row]:
        """Return who is in a step, and who lost their place for it."""
        rounds = [
            Row(job.request, 1 + drafts, job.context_tokens - 1, drafts)
            for job, drafts in zip(step.decoding, step.drafts, strict=True)
        ]
        chunks = [Row(job.request, tokens, job.cached_tokens) for job, tokens in step.chunks]
        lost = [Row(job.request, preempted=True) for job in self.live if job.preemptions > before[job.request][0]]
        return rounds + chunks + lost
