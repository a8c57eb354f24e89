"""vLLM's schedulers, ranked by a lapsbench policy: `--scheduler-cls lapsbench.vllm.Scheduler`.

A preemptive policy ranks running and waiting requests alike, and the best run; what the others hold is dropped
("recompute") or kept until the chosen need it ("keep"). A non-preemptive one orders the queue. All else is vLLM's.

Options are `options.py`'s, predictions come with the request (`predictions.py`), ranks are `board.py`'s.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from vllm.logger import init_logger
from vllm.v1.core.sched.async_scheduler import AsyncScheduler as VllmAsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler as VllmScheduler

from lapsbench.core import Engine
from lapsbench.errors import LapsbenchError
from lapsbench.policies.registry import spec_of
from lapsbench.serving.log import Row, StepLog
from lapsbench.sim.setup import system_of
from lapsbench.vllm.board import Board
from lapsbench.vllm.calibrate import learn, unlearnt
from lapsbench.vllm.counters import Counters
from lapsbench.vllm.header import header
from lapsbench.vllm.options import check_mode, options_of
from lapsbench.vllm.predictions import brought, client_of, seen
from lapsbench.vllm.queue import RankedQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm.v1.request import Request

    from lapsbench.core import Longs
    from lapsbench.vllm.calibrate import Learnt
    from lapsbench.vllm.options import Options

logger = init_logger("vllm.lapsbench")


@dataclass(eq=False)
class Job:
    """What the plug-in notes of a request, beside what its policy sees of it."""

    number: int
    place: int
    admitted: bool = False
    prefilling: bool = True
    preemptions: int = 0  # that the log has
    parts: tuple[tuple[bool, int], ...] = ()  # of steps that have not ended: is it a round, and what is left to prefill


class Ranked(VllmScheduler):
    """What both schedulers add to vLLM's."""

    clock: Callable[[], float] = staticmethod(time.time)
    asynchronous = False
    running: list[Request]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            options = options_of(self.vllm_config)
            check_mode(asynchronous=self.asynchronous, engine=bool(self.scheduler_config.async_scheduling))
            self.use(options)
            self.begin(options.log)
        except LapsbenchError as error:
            if multiprocessing.parent_process() is None:
                raise
            raise SystemExit(f"lapsbench: {error}") from None  # the engine's own process: the line, no traceback
        logger.info("lapsbench: policy %s, on preemption %s", spec_of(self.chosen), self.options.on_preempt)

    def use(self, options: Options) -> None:
        """Rank by this policy from the next `begin` on."""
        self.options = options
        self.learnt = self.learn(options)
        self.chosen, self.keep = options.policy, options.on_preempt == "keep"

    def begin(self, log: str) -> None:
        """Serve from now on as if nothing had been served, and write the step log, if a file is named.

        Raises:
            LapsbenchError: it cannot be written.
        """
        self.counters = Counters()
        self.jobs: dict[str, Job] = {}
        self.parked: dict[str, Request] = {}
        self.board = Board(self.options.policy, self.learnt)
        self.waiting = RankedQueue(self.board)
        self.step = 0
        self.next_drafts = self.num_spec_tokens
        self.ended_s = -math.inf
        self.composed: list[float] = []
        self.log = StepLog(log, header(self)) if log else None

    def learn(self, options: Options) -> Learnt:
        """Return what the policy learns from a profile, in a process of its own."""
        if options.learnt is not None:
            return options.learnt
        engine = self.engine()
        if not options.profile:
            return unlearnt(system_of(engine, options.policy, None))
        return learn(options, engine, self.max_model_len)

    def engine(self) -> Engine:
        """Return this engine as a replay would describe it."""
        drafts = self.vllm_config.speculative_config
        method = str(drafts.method) if drafts else ""
        return Engine(
            max_batch=self.max_num_active_reqs,
            draft_tokens=self.num_spec_tokens,
            on_preempt=self.options.on_preempt,
            rules="vllm",
            batched_tokens=self.max_num_scheduled_tokens,
            block_tokens=self.block_size,
            prefix_cache=bool(self.cache_config.enable_prefix_caching),
            draft_method="eagle" if "eagle" in method else "draft_model" if method == "draft_model" else "ngram",
        )

    # arrivals and departures ----------------------------------------------------------------------------------------

    def add_request(self, request: Request) -> None:
        """Queue a request, ranked."""
        if request.request_id not in self.requests:
            extra = brought(request)
            fields, predicted = seen(request, extra, self.learnt)
            self.counters.unpredicted += not predicted
            fields["last_run_step"] = self.step - 1
            self.look()
            place = self.board.add(request.request_id, request, client_of(extra), fields)
            self.returns(place)
            self.jobs[request.request_id] = Job(int(self.board.number[place]), place)
            self.board.ask(np.array([place]), self.clock(), self.step)
            if self.log:
                self.log.arrived(self.jobs[request.request_id].number, request.request_id, fields)
        super().add_request(request)

    def look(self) -> None:
        """Show who runs and who waits, where the policy weighs it."""
        if self.board.weighing.any:
            self.board.weighing.look(self.board, [self.jobs[request.request_id].place for request in self.running])

    def returns(self, place: int) -> None:
        """Lift the client of a new request, where clients are charged."""
        board = self.board
        if board.clients.charged:
            waiting = board.live.copy()
            waiting[[place, *(self.jobs[request.request_id].place for request in self.running)]] = False
            board.clients.returns(int(board.client[place]), np.unique(board.client[waiting]))

    def finish_requests(self, request_ids: Any, finished_status: Any) -> Any:
        """Forget aborted requests."""
        gone = super().finish_requests(request_ids, finished_status)
        for request in gone:
            self.forget(request.request_id, "aborted")
        return gone

    def forget(self, request_id: str, status: str) -> None:
        """Forget a request that left."""
        job = self.jobs.pop(request_id, None)
        if job is not None:
            self.board.remove(request_id, finished=status == "finished")
        self.parked.pop(request_id, None)
        if self.log and job is not None:
            self.log.left(job.number, status, self.clock())

    def get_request_counts(self) -> tuple[int, int]:
        """Count the parked among the waiting, or vLLM stops stepping while only they are left."""
        running, waiting = super().get_request_counts()
        return running, waiting + len(self.parked)

    def make_stats(self, *args: Any, **kwargs: Any) -> Any:
        """Bring our metrics up to date with vLLM's."""
        self.tell()
        return super().make_stats(*args, **kwargs)

    def tell(self) -> None:
        """Tell what was counted, and what is there now."""
        if self.log_stats:
            self.counters.ranked = self.board.ranked
            self.counters.tell(self.vllm_config.parallel_config.data_parallel_index, len(self.jobs), self.held())

    def held(self) -> int:
        """Return the KV blocks that requests hold."""
        pool = self.kv_cache_manager.block_pool
        return int(pool.num_gpu_blocks - 1 - pool.get_num_free_blocks())  # one is vLLM's null block

    def shutdown(self) -> None:
        """Say what was counted."""
        self.counters.ranked = self.board.ranked
        logger.info("lapsbench: %s; %d requests live, %d KV blocks held", self.counters, len(self.jobs), self.held())
        super().shutdown()
        if self.log:
            self.log.close()

    # ranks ----------------------------------------------------------------------------------------------------------

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        """Rank, preempt by rank, and let vLLM compose the step."""
        now_s = self.clock()
        self.arrange(now_s)
        output = super().schedule(*args, **kwargs)
        if output.num_scheduled_tokens:  # a policy sees the drafts of the last step: its schedule may change them
            self.board.system["draft_tokens"][0] = self.next_drafts
            self.next_drafts = output.num_spec_tokens_to_schedule
        self.counters.recomputed += len(output.preempted_req_ids or ())
        self.counters.preempted += len(output.preempted_req_ids or ())
        self.note(output, now_s)
        return output

    def arrange(self, now_s: float) -> None:
        """Rank; let the best run where the policy preempts; put the queue in order."""
        began_s = time.perf_counter()
        self.look()
        order = self.board.ranks(now_s, self.step)
        if self.chosen.preemptive:
            self.preempt(order)
        self.waiting.arrange()
        self.counters.rank_seconds += time.perf_counter() - began_s
        self.counters.steps += 1

    def preempt(self, order: Longs) -> None:
        """Let only the best run, in rank order; drop or park the others."""
        best, board = order[: self.max_num_active_reqs], self.board
        places = map(board.place.__getitem__, [request.request_id for request in self.running])
        running = np.fromiter(places, np.int64, len(self.running))
        runs, out = board.exchanged(best, running)
        self.running = board.request[runs].tolist()
        back = runs[board.parked[runs]] if self.parked else runs[:0]
        for request in board.request[back]:
            del self.parked[request.request_id]
        board.parked[back] = False
        if len(out):
            self.take_out(out)
        if len(back) and board.weighing.limited:
            board.weighing.starts(board, back)
            self.running.sort(key=lambda request: board.worse(board.place[request.request_id]))
        if self.parked:
            self.make_room(best)

    def take_out(self, places: Longs) -> None:
        """Park who runs and must not, or drop what they hold."""
        self.board.displaced[places] += 1
        requests = self.board.request[places].tolist()
        if self.keep:
            self.board.parked[places] = True
            self.parked.update((request.request_id, request) for request in requests)
            self.counters.preempted += len(requests)
        for request in requests:
            if self.keep:
                request.num_preemptions += 1
            else:
                self._preempt_request(request, time.monotonic())

    def make_room(self, best: Longs) -> None:
        """Drop parked requests, the worst first, while those who run may lack their blocks."""
        blocks, tokens = self.kv_cache_manager, self.num_spec_tokens + self.num_lookahead_tokens
        in_flight = 2 * (1 + self.num_spec_tokens)
        most = int(self.board.tokens[best].sum()) + len(best) * (in_flight + tokens + self.block_size)
        if most // self.block_size <= blocks.block_pool.get_num_free_blocks():
            return  # enough even if they held nothing: counting what each holds takes longer than all the rest
        lack = 0
        for request in self.board.request[best]:
            room = min(request.num_tokens + request.num_output_placeholders + tokens, self.max_model_len)
            lack += max(0, -(-room // self.block_size) - len(blocks.get_block_ids(request.request_id)[0]))
        board = self.board
        while self.parked and lack > blocks.block_pool.get_num_free_blocks():
            places = {known: board.place[known] for known in self.parked}
            worst = self.parked.pop(max(places, key=lambda known: board.worse(places[known])))
            board.parked[places[worst.request_id]] = False
            worst.num_preemptions -= 1  # it was counted when it was parked
            self.counters.preempted -= 1
            self._preempt_request(worst, time.monotonic())

    # what a step did ------------------------------------------------------------------------------------------------

    def note(self, output: Any, now_s: float) -> None:
        """Note who was admitted, who lost their memory, and when the step was composed."""
        for known in output.preempted_req_ids or ():
            request, job = self.requests[known], self.jobs[known]
            job.prefilling, left = True, request.num_tokens
            if known not in output.num_scheduled_tokens:
                left -= self.kv_cache_manager.get_computed_blocks(request)[1]
            self.board.view["prefill_left_tokens"][job.place] = left
            self.board.weighing.evicted(self.board, job.place, now_s)
        for known in output.num_scheduled_tokens:
            job, request = self.jobs[known], self.requests[known]
            if not job.admitted:
                job.admitted = True
                self.board.clients.admit(self.board.client[job.place], request.num_prompt_tokens)
            left = request.num_tokens - request.num_computed_tokens if request.is_prefill_chunk else 0
            job.parts += ((not job.prefilling, left),)
            if not request.is_prefill_chunk:
                job.prefilling = False
        if self.board.weighing.limited:
            self.board.weighing.starts(self.board, [self.jobs[known].place for known in output.num_scheduled_tokens])
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
        rows = []
        for each, request in known.items():
            job, new = self.jobs[each], request.num_output_tokens - before[each]
            (is_round, left), job.parts = job.parts[0], job.parts[1:]
            if each in stale:
                left = int(self.board.view["prefill_left_tokens"][job.place]) + new
            rows.append((job.place, new, is_round, left))
        self.board.book(rows, end_s - began_s, end_s, number)
        for each in known.keys() - self.requests.keys():
            self.forget(each, "finished")
        if known.keys() - self.requests.keys():
            self.tell()
        self.ended_s = end_s
        return outputs


class Scheduler(Ranked):
    """vLLM's scheduler, ranked."""


class AsyncScheduler(Ranked, VllmAsyncScheduler):
    """vLLM's asynchronous scheduler, a GPU's default, ranked."""

    asynchronous = True
