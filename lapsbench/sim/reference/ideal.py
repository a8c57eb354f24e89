"""The `ideal` engine in plain Python: slow, obvious, and right where the kernel disagrees.

One method per sentence of docs/model.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lapsbench.sim.cost import SWAP_IN, SWAP_OUT
from lapsbench.sim.reference.common import Live, Twin
from lapsbench.sim.reference.drafting import Drafts, together

if TYPE_CHECKING:
    from lapsbench.sim.reference.ranks import View


@dataclass(eq=False)
class Job(Live):
    """A job with what it holds of a memory counted in tokens."""

    resident: bool = False
    swapped: bool = False
    cached_tokens: int = 0


@dataclass
class Step:
    """What one step is made of."""

    batch: list[Job]
    decoding: list[Job]
    chunks: list[tuple[Job, int]]
    swap_s: float = 0.0
    drafts: list[int] = field(default_factory=list)  # of those that decode


@dataclass
class Ideal(Twin[Job]):
    """Choose, fill, price, advance."""

    def job(self, request: int, view: View, output_tokens: int, client: int) -> Job:
        """Return a new job, which holds nothing yet."""
        return Job(request, view, output_tokens, client)

    def too_big(self, job: Job) -> bool:
        """Say whether a job's last round would not fit into an empty memory."""
        return not self.fits(job.view.prompt_tokens + job.output_tokens + self.engine.draft_tokens)

    def take_step(self) -> None:
        """Choose a batch, let it run, move the clock."""
        step = self.fill(self.select())
        self.draft(step)
        self.advance(step, self.price(step))

    # select ---------------------------------------------------------------------------------------------------------

    def select(self) -> list[Job]:
        """Order live jobs, take the first that fit, preempt the rest."""
        for job in self.live:
            if job.running or self.ranks.due(job.view, self.now_s, self.step):
                self.rerank(job)
        ordered = sorted(self.live, key=lambda job: (not self.policy.preemptive and not job.running, job.order))
        chosen: list[Job] = []
        used = 0
        for job in ordered:
            if len(chosen) == self.engine.max_batch:
                break
            if self.fits(used + self.held(job)):
                chosen.append(job)
                used += self.held(job)
        return chosen

    def held(self, job: Job) -> int:
        """KV tokens a resident job holds."""
        return job.context_tokens + self.engine.draft_tokens + 1

    def fits(self, tokens: int) -> bool:
        """Say whether so many tokens fit into KV memory."""
        return self.engine.kv_tokens == 0 or tokens <= self.engine.kv_tokens

    def swap(self, chosen: list[Job]) -> float:
        """Preempt the running jobs that were not chosen, resume those that were, evict what no longer fits."""
        picked = {job.request for job in chosen}
        swap_s = 0.0
        for job in sorted(self.live, key=lambda job: job.request):
            if job.running and job.request not in picked:
                job.running = False
                job.preemptions += 1
                job.displaced += 1
                self.unshield(job)
                if self.engine.on_preempt == "recompute":
                    self.evict(job)
                elif self.engine.on_preempt == "swap" and job.cached_tokens > 0:
                    swap_s += self.prices.part(SWAP_OUT, 1, job.cached_tokens)
                    job.swapped, job.resident = True, False
                elif self.engine.on_preempt == "swap":
                    job.resident = False
        for job in sorted(chosen, key=lambda job: job.request):
            if job.swapped:
                swap_s += self.prices.part(SWAP_IN, 1, job.cached_tokens)
                job.swapped = False
            job.resident = True
        spare = sorted((job for job in self.live if job.resident and job.request not in picked), key=lambda j: j.order)
        total = sum(self.held(job) for job in chosen) + sum(self.held(job) for job in spare)
        while spare and not self.fits(total):
            worst = spare.pop()
            total -= self.held(worst)
            self.evict(worst)
        return swap_s

    def evict(self, job: Job) -> None:
        """Drop a job's KV: it must prefill its prompt and what it has emitted again."""
        job.resident = False
        job.recomputed_tokens += job.cached_tokens
        job.cached_tokens = 0
        job.view.prefill_left_tokens = job.context_tokens

    # fill and price -------------------------------------------------------------------------------------------------

    def fill(self, chosen: list[Job]) -> Step:
        """Give out the prefill budget in rank order; jobs whose prefill was complete do a round."""
        step = Step(sorted(chosen, key=lambda job: job.order), [], [], self.swap(chosen))
        budget = self.engine.prefill_budget or math.inf
        for job in step.batch:
            self.admit(job)
            job.running = True
            if job.view.prefill_left_tokens == 0:
                step.decoding.append(job)
            elif budget > 0:
                tokens = int(min(job.view.prefill_left_tokens, budget))
                budget -= tokens
                step.chunks.append((job, tokens))
        return step

    def draft(self, step: Step) -> None:
        """Say how many tokens each round drafts."""
        if step.decoding:
            contexts = [job.context_tokens for job in step.decoding]
            views, runs = [job.view for job in step.decoding], [self.accept_run(job) for job in step.decoding]
            step.drafts = self.drafting.ask(views, contexts, runs, self.now_s, self.step)
            self.ranks.system.draft_tokens = max(step.drafts)

    def price(self, step: Step) -> float:
        """Return the seconds the step takes."""
        contexts = [job.context_tokens for job in step.decoding]
        chunks = [(tokens, job.cached_tokens) for job, tokens in step.chunks]
        # where nobody does a round, nobody was asked: whoever prefills will draft
        drafts = together(step.drafts) if step.drafts else Drafts(self.engine.draft_tokens, 0.0)
        return self.prices.step(len(step.batch), contexts, chunks, step.swap_s, most=drafts.most, mean=drafts.mean)

    # advance --------------------------------------------------------------------------------------------------------

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
                self.emit(job, 1)
        for job, drafts in zip(step.decoding, step.drafts, strict=True):
            accepted = self.accepted(job, drafts)
            self.learn(job, drafts, accepted)
            tokens = min(accepted + 1, job.output_tokens - job.view.emitted_tokens)
            job.view.rounds += 1
            job.view.accepted_tokens += tokens - 1
            self.emit(job, tokens)
        for job in step.batch:
            job.view.attained_s += dt
            job.view.last_run_s = self.now_s
            job.view.last_run_step = self.step
            if job.view.emitted_tokens == job.output_tokens:
                self.leave(job)
        self.tally(len(step.decoding), dt)
        self.step += 1
        self.idle_steps = 0 if progress else self.idle_steps + 1

    def accepted(self, job: Job, drafts: int) -> int:
        """Return how many of a round's drafts were accepted."""
        return min(self.accept_run(job), drafts)

    def emit(self, job: Job, tokens: int) -> None:
        """Book emitted tokens; their KV is cached."""
        super().emit(job, tokens)
        job.cached_tokens = job.context_tokens
        job.peak_tokens = max(job.peak_tokens, job.cached_tokens)
