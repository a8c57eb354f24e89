"""vLLM's schedulers, ranked by a lapsbench policy: `--scheduler-cls lapsbench.vllm.scheduler.Scheduler`.

A preemptive policy ranks running and waiting requests alike, and the best run; what the others hold is dropped
("recompute") or kept until the chosen need it ("keep"). A non-preemptive one orders the queue. All else is vLLM's.

`additional_config["lapsbench"]`: `policy`, `on_preempt`, `log` (a file for the step log). Predictions come with the
request (`extra_args`).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from vllm.v1.core.sched.async_scheduler import AsyncScheduler as VllmAsyncScheduler
from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.core.sched.scheduler import Scheduler as VllmScheduler

from lapsbench.core import SYSTEM, Policy
from lapsbench.policies.registry import find
from lapsbench.sim.reference.ranks import Ranks, View
from lapsbench.vllm.log import Row, StepLog, header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vllm.v1.request import Request

PREDICTIONS = ("predicted_tokens", "predicted_class", "predicted_rounds", "prefill_s")
"""What a request may bring in `extra_args`, beside `client`."""


@dataclass(eq=False)
class Job:
    """A request as its policy sees it."""

    number: int
    view: View
    client: int
    rank: float = math.inf
    ran: bool = False
    admitted: bool = False
    prefilling: bool = True
    preemptions: int = 0  # that the log has
    parts: tuple[tuple[bool, int], ...] = ()  # of steps that have not ended: is it a round, and what is left to prefill

    @property
    def order(self) -> tuple[float, int]:
        """Rank, then arrival."""
        return self.rank, self.number


class RankedQueue(RequestQueue):
    """The waiting requests. vLLM peeks and pops the first; `sort` puts them in rank order once a step."""

    def __init__(self) -> None:
        self.items: list[Request] = []

    def add_request(self, request: Request) -> None:
        """Put a request behind the others."""
        self.items.append(request)

    def pop_request(self) -> Request:
        """Take the first."""
        return self.items.pop(0)

    def peek_request(self) -> Request:
        """Look at the first."""
        return self.items[0]

    def prepend_request(self, request: Request) -> None:
        """Put a request in front."""
        self.items.insert(0, request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        """Put requests in front, the first given last."""
        for request in requests:
            self.items.insert(0, request)

    def remove_request(self, request: Request) -> None:
        """Take a request out."""
        self.items.remove(request)

    def remove_requests(self, requests: Iterable[Request]) -> None:
        """Take requests out."""
        gone = set(requests)
        self.items = [request for request in self.items if request not in gone]

    def __bool__(self) -> bool:
        """Say whether anybody waits."""
        return bool(self.items)

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self.items)

    def __iter__(self) -> Iterator[Request]:
        """Return those who wait, in order."""
        return iter(list(self.items))


class Ranked(VllmScheduler):
    """What both schedulers add to vLLM's."""

    clock: Callable[[], float] = staticmethod(time.time)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = (self.vllm_config.additional_config or {}).get("lapsbench", {})
        found = options.get("policy", "srpt")
        self.chosen: Policy = found if isinstance(found, Policy) else find(found)
        self.keep = options.get("on_preempt", "recompute") == "keep"
        system = options.get("system")
        self.ranks = Ranks(self.chosen, self.unlearnt() if system is None else system)
        self.jobs: dict[str, Job] = {}
        self.parked: dict[str, Request] = {}
        self.waiting = RankedQueue()
        self.step = self.arrivals = 0
        self.ended_s, self.busy = -math.inf, False
        self.composed: list[float] = []
        self.log = StepLog(options["log"], header(self)) if options.get("log") else None

    def unlearnt(self) -> Any:
        """Return what a policy sees of the engine where nothing was calibrated."""
        system = np.zeros(1, SYSTEM)
        for name in ("mean_tokens_per_round", "mean_round_s", "mean_service_s", "service_p20_s"):
            system[name] = math.nan
        system["max_batch"], system["draft_tokens"] = self.max_num_active_reqs, self.num_spec_tokens
        system["params"][0, : len(self.chosen.parameters)] = list(self.chosen.parameters.values())
        return system[0]

    # arrivals and departures ----------------------------------------------------------------------------------------

    def add_request(self, request: Request) -> None:
        """Queue a request, ranked."""
        if request.request_id not in self.requests:
            extra = (request.sampling_params and request.sampling_params.extra_args) or {}
            job = Job(self.arrivals, self.seen(request, extra), int(extra.get("client", 0)))
            self.arrivals += 1
            running = {other.request_id for other in self.running}
            waiting = {other.client for known, other in self.jobs.items() if known not in running}
            self.ranks.lift(job.client, waiting)
            self.jobs[request.request_id] = job
            self.ask(job)
            if self.log:
                self.log.arrived(job.number, request.request_id, job.view)
        super().add_request(request)

    def seen(self, request: Request, extra: dict[str, Any]) -> View:
        """Return what a policy sees of a new request."""
        given = {name: extra[name] for name in PREDICTIONS if name in extra}
        return View(
            arrival_s=request.arrival_time,
            prompt_tokens=request.num_prompt_tokens,
            predicted_tokens=given.pop("predicted_tokens", float(request.max_tokens)),
            priority=request.priority,
            last_run_step=self.step - 1,
            **given,
        )

    def finish_requests(self, request_ids: Any, finished_status: Any) -> Any:
        """Forget aborted requests."""
        gone = super().finish_requests(request_ids, finished_status)
        for request in gone:
            self.forget(request.request_id, "aborted")
        return gone

    def forget(self, request_id: str, status: str) -> None:
        """Forget a request that left."""
        job = self.jobs.pop(request_id, None)
        self.parked.pop(request_id, None)
        if self.log and job is not None:
            self.log.left(job.number, status, self.clock())

    def shutdown(self) -> None:
        """Close the log."""
        super().shutdown()
        if self.log:
            self.log.close()

    def get_request_counts(self) -> tuple[int, int]:
        """Count the parked among the waiting, or vLLM stops stepping while only they are left."""
        running, waiting = super().get_request_counts()
        return running, waiting + len(self.parked)

    # ranks ----------------------------------------------------------------------------------------------------------

    def ask(self, job: Job) -> None:
        """Ask the policy for a rank."""
        job.rank = self.ranks.ask(job.number, job.view, job.client, self.clock(), self.step)

    def order(self, request: Request) -> tuple[float, int]:
        """Return what requests are sorted by."""
        return self.jobs[request.request_id].order

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        """Rank, preempt by rank, and let vLLM compose the step."""
        now_s = self.clock()
        for job in self.jobs.values():
            if job.ran or self.ranks.due(job.view, now_s, self.step):
                job.ran = False
                self.ask(job)
        if self.chosen.preemptive:
            self.preempt()
        self.waiting.items.sort(key=self.order)
        output = super().schedule(*args, **kwargs)
        self.note(output, now_s)
        return output

    def preempt(self) -> None:
        """Let only the best run, in rank order; drop or park the others."""
        live = sorted((self.requests[known] for known in self.jobs), key=self.order)
        best = live[: self.max_num_active_reqs]
        chosen = {request.request_id for request in best}
        for request in [request for request in self.running if request.request_id not in chosen]:
            self.running.remove(request)
            if self.keep:
                self.parked[request.request_id] = request
                request.num_preemptions += 1
            else:
                self._preempt_request(request, time.monotonic())
        self.running += [self.parked.pop(known) for known in chosen & self.parked.keys()]
        self.running.sort(key=self.order)
        blocks, tokens = self.kv_cache_manager, self.num_spec_tokens + self.num_lookahead_tokens
        lack = 0
        for request in best:
            room = min(request.num_tokens + request.num_output_placeholders + tokens, self.max_model_len)
            lack += max(0, -(-room // self.block_size) - len(blocks.get_block_ids(request.request_id)[0]))
        while self.parked and lack > blocks.block_pool.get_num_free_blocks():
            worst = max(self.parked.values(), key=self.order)
            del self.parked[worst.request_id]
            worst.num_preemptions -= 1  # it was counted when it was parked
            self._preempt_request(worst, time.monotonic())

    # what a step did ------------------------------------------------------------------------------------------------

    def note(self, output: Any, now_s: float) -> None:
        """Note who was admitted, who lost their memory, and when the step was composed."""
        for known in output.preempted_req_ids or ():
            request, job = self.requests[known], self.jobs[known]
            job.prefilling = True
            job.view.prefill_left_tokens = request.num_tokens
            if known not in output.num_scheduled_tokens:
                job.view.prefill_left_tokens -= self.kv_cache_manager.get_computed_blocks(request)[1]
        for known in output.num_scheduled_tokens:
            job, request = self.jobs[known], self.requests[known]
            if not job.admitted:
                job.admitted = True
                self.ranks.client(job.client).prompt_tokens += job.view.prompt_tokens
            left = request.num_tokens - request.num_computed_tokens if request.is_prefill_chunk else 0
            job.parts += ((not job.prefilling, left),)
            if not request.is_prefill_chunk:
                job.prefilling = False
        if self.log:
            self.log.composed(self.step, now_s, self.rows(output))
        if output.num_scheduled_tokens:
            self.composed.append(now_s)
            self.step += 1

    def rows(self, output: Any) -> list[Row]:
        """Return what the log says of a step: who is in it, and who lost their place."""
        cached = {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        again = output.scheduled_cached_reqs
        cached |= dict(zip(again.req_ids, again.num_computed_tokens, strict=True))
        rows = []
        for known in dict.fromkeys((*output.num_scheduled_tokens, *(output.preempted_req_ids or ()), *self.parked)):
            job, preemptions = self.jobs[known], self.requests[known].num_preemptions
            tokens = output.num_scheduled_tokens.get(known, 0)
            if tokens or preemptions > job.preemptions:
                drafts = len(output.scheduled_spec_decode_tokens.get(known, ()))
                rows.append(Row(job.number, tokens, cached.get(known, 0), drafts, preemptions > job.preemptions))
            job.preemptions = preemptions
        return rows

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """Let vLLM book what the model did, and keep what policies see up to date."""
        scheduled = scheduler_output.num_scheduled_tokens
        known = {each: self.requests[each] for each in scheduled if each in self.requests}
        stale = {each for each, request in known.items() if request.num_stale_output_tokens > 0}
        before = {each: request.num_output_tokens for each, request in known.items()}
        number = self.step - len(self.composed)
        numbers = {each: self.jobs[each].number for each in known}
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        if not scheduled:
            return outputs
        composed_s, end_s = self.composed.pop(0), self.clock()
        if self.log:
            new = {numbers[each]: known[each].num_output_tokens - before[each] for each in known}
            self.log.ran(end_s, new)
        began_s = max(composed_s, self.ended_s)
        for each, request in known.items():
            job, new = self.jobs[each], request.num_output_tokens - before[each]
            view, (is_round, left), job.parts = job.view, job.parts[0], job.parts[1:]
            if new and is_round:
                view.rounds += 1
                view.accepted_tokens += new - 1
            view.emitted_tokens += new
            self.ranks.client(job.client).emitted_tokens += new
            view.prefill_left_tokens = view.prefill_left_tokens + new if each in stale else left
            view.attained_s += end_s - began_s
            view.last_run_s, view.last_run_step, job.ran = end_s, number, True
            if each not in self.requests:
                self.forget(each, "finished")
        self.ended_s = end_s
        return outputs


class Scheduler(Ranked):
    """vLLM's scheduler, ranked."""


class AsyncScheduler(Ranked, VllmAsyncScheduler):
    """vLLM's asynchronous scheduler, a GPU's default, ranked."""
