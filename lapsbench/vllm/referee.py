"""The referee: the installed vLLM's own scheduler, run in virtual time on a workload, with a profile's prices.

What is vLLM's: who is in a step, with how many tokens and drafts, who is preempted, and what an output does to that.
What is ours: the clock, the price of a step, how many drafts the target accepts. `fcfs` and `priority` run on stock
vLLM, all other policies through the plug-in (`scheduler.py`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vllm import SamplingParams
from vllm.v1.core.sched.async_scheduler import AsyncScheduler as StockAsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler as StockScheduler
from vllm.v1.outputs import DraftTokenIds, ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from lapsbench.policies.registry import vllms_own
from lapsbench.schedules import RECORDED
from lapsbench.sim.reference.common import Live, Twin, recorded
from lapsbench.sim.reference.drafting import together
from lapsbench.vllm.calibrate import told
from lapsbench.vllm.config import configured, memory
from lapsbench.vllm.scheduler import AsyncScheduler, Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.core import Engine, Outcome, Policy, Workload
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.reference.ranks import View
    from lapsbench.sim.setup import Setup

TOKEN = 7
"""What every request emits: nothing depends on it."""


@dataclass(eq=False)
class Part:
    """What vLLM put into a step for one request."""

    job: Live
    cached: int
    tokens: int
    drafts: int
    padded: bool
    round: bool
    emits: bool
    emitted: int = 0


@dataclass
class Step:
    """A step vLLM composed."""

    output: Any
    number: int
    parts: list[Part]
    dropped: list[int]
    drafts: int  # a round, as was said when the step before it was composed
    began_s: float = 0.0
    ended_s: float = 0.0


@dataclass
class Referee(Twin[Live]):
    """One replay on vLLM's scheduler; the loop is `EngineCore.step`, or `step_with_batch_queue`."""

    log: list[Step] | None = None
    steps: deque[Step] = field(default_factory=deque)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.asynchronous = self.engine.scheduling == "async"
        self.scheduler = self.vllms()
        self.requests: dict[int, Request] = {}
        self.prefilling: set[int] = set()
        self.next_drafts, self.recorded = self.engine.draft_tokens, self.engine.drafts == RECORDED

    def vllms(self) -> Any:
        """Return vLLM's scheduler of this engine."""
        engine, own = self.engine, vllms_own(self.policy)
        config = configured(engine, self.blocks() + 1, policy=own or "fcfs")  # one is vLLM's null block
        kind: Any = (AsyncScheduler if self.asynchronous else Scheduler) if not own else None
        if own:
            kind = StockAsyncScheduler if self.asynchronous else StockScheduler
        else:
            longest = int((self.work.prompt_tokens.astype(int) + self.work.output_tokens).max(initial=1))
            learnt = told(self.policy, self.setup, engine, self.costs, longest)
            options = {"policy": self.policy, "on_preempt": engine.on_preempt, "learnt": learnt}
            config.additional_config = {"lapsbench": options}
        made = kind(
            vllm_config=config,
            kv_cache_config=memory(engine, self.blocks() + 1),
            structured_output_manager=StructuredOutputManager(config),
            block_size=engine.block_tokens,
            log_stats=False,
        )
        made.clock = lambda: self.now_s
        return made

    def blocks(self) -> int:
        """Return the KV blocks there are; of an unlimited memory more than everybody needs, copies in the cache too."""
        engine, work = self.engine, self.work
        extra = engine.draft_tokens + engine.lookahead_tokens + engine.block_tokens
        need = int(((work.prompt_tokens + work.output_tokens + extra) // engine.block_tokens + 1).sum())
        return min(engine.kv_blocks, 2 * need + 4096)

    # arrivals -------------------------------------------------------------------------------------------------------

    def job(self, request: int, view: View, output_tokens: int, client: int) -> Live:
        """Return a new job."""
        return Live(request, view, output_tokens, client)

    def too_big(self, job: Live) -> bool:
        """Say whether vLLM's front end refuses it: prompt and output beyond the longest context."""
        return job.view.prompt_tokens + job.output_tokens > self.engine.context_limit

    def rerank(self, job: Live) -> None:
        """Ranks are the plug-in's."""

    def idle(self) -> bool:
        """Say whether nobody is live, and no step runs."""
        return not self.live and not self.steps

    def arrive(self, request: int) -> None:
        """Hand a request to vLLM."""
        super().arrive(request)
        if request in self.finished:
            return
        job = self.live[-1]
        view = job.view
        extra = {
            "predicted_tokens": view.predicted_tokens,
            "predicted_class": view.predicted_class,
            "predicted_rounds": view.predicted_rounds,
            "prefill_s": view.prefill_s,
            "category": view.category,
            "own_tokens_per_round": view.own_tokens_per_round,
            "client": job.client,
        }
        params = SamplingParams(temperature=0.0, max_tokens=job.output_tokens, ignore_eos=True, extra_args=extra)
        self.requests[request] = Request(
            f"{request:08d}",  # vLLM's priority breaks ties by name
            [request + 10] * view.prompt_tokens,
            params,
            None,
            arrival_time=view.arrival_s,
            priority=view.priority,
            block_hasher=self.hashes if self.engine.prefix_cache else None,
        )
        self.prefilling.add(request)
        self.scheduler.add_request(self.requests[request])

    def hashes(self, request: Request) -> list[Any]:
        """Name a request's new full blocks: all prompts differ, so a number and a place say what a hash would."""
        full = request.num_tokens // self.engine.block_tokens
        return [f"{request.request_id}:{place}".encode() for place in range(len(request.block_hashes), full)]

    # steps ----------------------------------------------------------------------------------------------------------

    def take_step(self) -> None:
        """Compose a step; run the oldest when the queue is full, or nothing more can be composed."""
        step = self.compose() if self.live else None
        if step is not None and step.parts:
            self.steps.append(step)
            self.step += 1
            if self.asynchronous and len(self.steps) < 2:
                return
        if self.steps:
            self.run_step(self.steps.popleft())
        elif step is None or not step.dropped:
            self.wait()

    def wait(self) -> None:
        """Nobody can run: time goes on to the next arrival."""
        if self.next_request == len(self.work):
            self.stopped = "stalled"
        else:
            self.now_s = float(self.work.arrival_s[self.next_request])

    def compose(self) -> Step:
        """Let vLLM compose a step, and read off what is in it."""
        output = self.scheduler.schedule()
        dropped = sorted(int(known) for known in output.preempted_req_ids or ())
        self.prefilling.update(dropped)
        admitted = {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        again = output.scheduled_cached_reqs
        cached = admitted | dict(zip(again.req_ids, again.num_computed_tokens, strict=True))
        step = Step(output, self.step, [], dropped, self.next_drafts)
        if output.num_scheduled_tokens and self.engine.draft_tokens:
            self.next_drafts = output.num_spec_tokens_to_schedule
        live = {job.request: job for job in self.live}
        for known, tokens in output.num_scheduled_tokens.items():
            request = self.requests[int(known)]
            drafts = len(output.scheduled_spec_decode_tokens.get(known, ()))
            padded = drafts > 0 and (known in admitted or known in again.resumed_req_ids)
            emits, is_round = not request.is_prefill_chunk, int(known) not in self.prefilling
            step.parts.append(Part(live[int(known)], cached[known], tokens, drafts, padded, is_round, emits))
            if emits:
                self.prefilling.discard(int(known))
            self.admit(live[int(known)])
        return step

    def run_step(self, step: Step) -> None:
        """Let time pass, tell vLLM what the model emitted, and note what it makes of it."""
        step.began_s = self.now_s
        contexts = [part.job.context_tokens for part in step.parts if part.round]
        chunks = [(part.tokens, part.cached) for part in step.parts if not part.round]
        k, mean = step.drafts, float(step.drafts)
        if self.recorded and contexts:
            mean = together([self.found(part.job) for part in step.parts if part.round]).mean
        price_s = self.prices.step(len(step.parts), contexts, chunks, most=k, mean=mean)
        self.now_s += price_s
        step.ended_s = self.now_s
        names = list(step.output.num_scheduled_tokens)
        sampled = [[TOKEN] * self.sampled(part) for part in step.parts]
        places = {name: place for place, name in enumerate(names)}
        result = ModelRunnerOutput(req_ids=names, req_id_to_index=places, sampled_token_ids=sampled)
        drafting = [place for place, tokens in enumerate(sampled) if tokens]
        outputs = self.scheduler.update_from_output(step.output, result)
        if self.engine.draft_tokens and not self.asynchronous:
            counts = [step.output.num_spec_tokens_to_schedule] * len(drafting)
            if self.recorded:
                counts = [self.found(step.parts[place].job, len(sampled[place])) for place in drafting]
            drafts = [[TOKEN] * count for count in counts]
            self.scheduler.update_draft_token_ids(DraftTokenIds([names[place] for place in drafting], drafts))
        emitted = {int(each.request_id): each for group in outputs.values() for each in group.outputs}
        progress = [self.book(part, emitted.get(part.job.request)) for part in step.parts]
        self.tally(len(contexts), price_s)
        self.idle_steps = 0 if any(progress) else self.idle_steps + 1
        if self.log is not None:
            self.log.append(step)

    def found(self, job: Live, more: int = 0) -> int:
        """Return the drafts that a job's recording has, so many tokens further on."""
        found = recorded(self.work, self.work.drafted, job.request, job.view.emitted_tokens + more)
        return min(found, self.engine.draft_tokens)

    def sampled(self, part: Part) -> int:
        """Return the tokens the model emits for a part of a step."""
        if not part.emits or part.job.request in self.finished:
            return 0
        return 1 if part.padded else 1 + min(self.accept_run(part.job), part.drafts)

    def book(self, part: Part, output: Any) -> bool:
        """Book what vLLM hands out for a request, and say whether it got anywhere."""
        job, view = part.job, part.job.view
        if job.request in self.finished:
            return False
        end = job.context_tokens if part.round else min(part.cached + part.tokens, job.context_tokens)
        job.recomputed_tokens += max(0, min(end, job.peak_tokens) - part.cached) if not part.round else 0
        progress = end > job.peak_tokens or output is not None
        job.peak_tokens = max(job.peak_tokens, end)
        if output is not None:
            part.emitted = len(output.new_token_ids)
            if part.round:
                self.learn(job, part.drafts, min(self.accept_run(job), part.drafts))
                view.rounds += 1
                view.accepted_tokens += part.emitted - 1
            elif view.emitted_tokens:
                job.resumes += part.emitted
            self.emit(job, part.emitted)
            if output.finish_reason is not None:
                job.preemptions = self.requests.pop(job.request).num_preemptions
                self.leave(job)
        return progress

    def outcome(self) -> Outcome:
        """Read off the preemptions of those who are still there, too."""
        for job in self.live:
            job.preemptions = self.requests[job.request].num_preemptions
        return super().outcome()


def replay(
    work: Workload,
    engine: Engine,
    policy: Policy,
    costs: StepCosts,
    setup: Setup,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Replay one policy on the installed vLLM's scheduler. Same arguments and same result as `sim.kernel.replay`."""
    outcome = Referee(work, engine, policy, costs, setup).run()
    if progress is not None:
        progress(len(work))
    return outcome
