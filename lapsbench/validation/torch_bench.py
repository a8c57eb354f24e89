"""Our decoder as a validation takes it: steps of it are timed as it serves, and cells served, in one process.

The same questions as `lapsbench.vllm.composing.Composed` answers: seat so many rounds, time them, time a chunk.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import Costs, Profile, Workload
from lapsbench.execution.engines import torch_serving
from lapsbench.policies.registry import find
from lapsbench.serving.clock import Clock
from lapsbench.serving.log import StepLog
from lapsbench.serving.server import Server
from lapsbench.serving.torch import TorchServing, load, serve
from lapsbench.sim.cost import step_costs
from lapsbench.sim.setup import Solo, set_up
from lapsbench.streams import stream
from lapsbench.validation.weights import parts_of
from lapsbench.vllm.composing import Taken
from lapsbench.vllm.wanted import GROWTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lapsbench.core import Bytes, Policy
    from lapsbench.execution.wanted import Serve
    from lapsbench.serving.clock import ClockKind
    from lapsbench.validation.asked import Measure

MOST_SENT = 1 << 16
"""Requests in a session."""


class TorchBench:
    """A server whose requests are made up one by one."""

    def __init__(self, asked: Measure) -> None:
        wanted, self.engine = asked.wanted, asked.engine
        policy, costs = find("fcfs"), step_costs(_unpriced(asked.engine.draft_tokens), asked.engine)
        self.work = _nobody(MOST_SENT, 2 * asked.longest, asked.accept_runs)  # some are longer than the mean
        serving = TorchServing(
            target=wanted.target,
            draft=wanted.draft,
            engine=asked.engine,
            policy=policy,
            costs=costs,
            log=Path(os.devnull),
            device=asked.prepared.device,
            dtype=wanted.dtype,
        )
        self.models = models = load(self.work, serving)
        self.longest = min(2 * asked.longest, models.positions - 2 * asked.engine.draft_tokens - 2)
        nothing = np.zeros(MOST_SENT)
        _, setup = set_up(self.work, asked.engine, policy, Solo(nothing, nothing.astype(np.int32), nothing), None)
        self.clock, self.draw = Clock(wanted.clock), stream(0, "validate/torch")
        self.ready = self.work, asked.engine, policy, costs, setup
        self.target_s = self.draft_s = self.drafted_s = 0.0
        self.begin()
        self.parts = parts_of(models.executor.target.model, asked.engine.max_batch * (1 + asked.engine.draft_tokens))
        models.executor.step = self._timed(models.executor.step, "target_s")  # type: ignore[method-assign]
        for drafts, decoder in models.executor.decoders.items():
            if drafts:
                decoder.draft_round = self._timed(decoder.draft_round, "draft_s")  # type: ignore[method-assign]

    def begin(self) -> None:
        """Forget who was served."""
        self.models.executor.forget()
        self.server = Server(
            *self.ready,
            executor=self.models.executor,
            prompts=[],
            clock=self.clock,
            log=StepLog(os.devnull, {}),
            imposed=True,
            positions=self.models.positions,
        )
        self.seated: list[int] = []
        self.context = 0

    def serve(self, asked: Serve, policy: Policy, make_clock: Callable[[ClockKind], Clock]) -> None:
        """Serve a cell as a decoder of its own would, and be measured again after it."""
        serve(asked.work, asked.setup, torch_serving(asked, policy), self.models, make_clock)
        self.begin()

    def _timed(self, called: Callable[..., Any], total: str) -> Callable[..., Any]:
        def timed(*args: Any, **more: Any) -> Any:
            began_s = self.clock.read()
            try:
                return called(*args, **more)
            finally:
                setattr(self, total, getattr(self, total) + self.clock.read() - began_s)

        return timed

    def send(self, prompt_tokens: int) -> int:
        """Let a request in that will not end by itself; return its number."""
        server, request = self.server, self.server.next_request
        self.work.prompt_tokens[request] = prompt_tokens
        self.work.output_tokens[request] = self.longest - prompt_tokens
        vocabulary = server.executor.target.vocabulary
        prompts: list[list[int]] = server.prompts  # type: ignore[assignment]
        prompts.append(self.draw.integers(0, vocabulary, prompt_tokens).tolist())
        server.arrive(request)
        server.next_request += 1
        return request

    def step(self, budget: int = 0, prompt_tokens: int = 0) -> Taken:
        """Take a step, letting a request in at first where one is asked for; 0: any number of prompt tokens."""
        server = self.server
        server.engine = replace(self.engine, prefill_budget=budget)
        self.target_s = self.draft_s = 0.0
        began_s = self.clock.read()
        if prompt_tokens:
            self.last = self.send(prompt_tokens)
        server.now_s = self.clock.hold()
        server.take_step()
        whole_s = self.clock.read() - began_s
        return Taken(whole_s, self.target_s - self.draft_s, self.draft_s)

    def tell(self, drafts: int) -> None:
        """Rounds always draft as many."""
        assert drafts == self.engine.draft_tokens  # noqa: S101 - the grid has no others

    def drop(self, requests: Sequence[int]) -> None:
        """Take requests out."""
        server = self.server
        server.live = [job for job in server.live if job.request not in requests]
        for request in requests:
            server.executor.evict(request)
            del server.executor.texts[request]
        self.seated = [request for request in self.seated if request not in requests]

    def seat(self, rounds: int, context_tokens: int) -> None:
        """Have so many requests decode, at this mean context: attention reads as far as the longest goes."""
        if context_tokens != self.context or rounds > len(self.seated):
            self.drop(list(self.seated))
            self.context = context_tokens
            most = self.longest - GROWTH * (1 + self.engine.draft_tokens)
            self.seated = [self.send(each) for each in apart(context_tokens, rounds, most)]
        self.drop(self.seated[rounds:])
        while any(job.view.prefill_left_tokens for job in self.server.live):
            self.step()

    def rounds(self, repeats: int) -> Iterator[Taken]:
        """Time steps with rounds alone, each as it is asked for."""
        self.step()
        drafted_s = []
        for _ in range(repeats):
            taken = self.step()
            drafted_s.append(taken.draft_s)
            yield taken
        self.drafted_s = float(np.median(drafted_s))

    def chunk(self, tokens: int, cached: int) -> Taken:
        """Time a step with the rounds that are seated and so many tokens of a prompt, of which some are cached.

        What the draft takes in of the prompt counts as the target's.
        """
        if cached:
            self.step(cached, cached + tokens)
        taken = self.step(tokens, 0 if cached else tokens)
        self.drop([self.last])
        drafted_s = self.drafted_s if self.seated else 0.0
        return Taken(taken.whole_s, taken.target_s + taken.draft_s - drafted_s, drafted_s)


def apart(mean_tokens: int, rounds: int, most_tokens: int) -> list[int]:
    """Return contexts with this mean, evenly spread from next to nothing to twice it, or to `most_tokens`.

    Those served together are so far apart: of 2, 4 and 8 the longest was 1.4, 1.7 and 1.9 times their mean, here it is
    1.5, 1.75 and 1.9 times.
    """
    reach = max(min(mean_tokens - 1, most_tokens - mean_tokens), 0)
    return [round(mean_tokens + reach * ((2 * place + 1) / rounds - 1)) for place in range(rounds)]


def _nobody(requests: int, longest: int, accept_runs: Bytes) -> Workload:
    """Return a workload to be filled in; who drafts has half of the runs accepted, beginning anywhere in the others."""
    ones, zeros, half = np.ones(requests, np.int32), np.zeros(requests), (len(accept_runs) + 1) // 2
    return Workload(
        arrival_s=zeros.copy(),
        prompt_tokens=ones.copy(),
        output_tokens=np.full(requests, longest - 1, np.int32),
        predicted_tokens=zeros + longest,
        predicted_class=np.zeros(requests, np.int32),
        client=np.zeros(requests, np.int32),
        clients=1,
        recording_start=np.arange(requests) % (len(accept_runs) - half + 1),
        recording_tokens=half * ones,
        recording_shift=np.zeros(requests, np.int32),
        accept_runs=accept_runs,
    )


def _unpriced(drafts: int) -> Profile:
    """Return prices for a policy that asks for none."""
    component = np.array(["verify", "draft"][: 2 if drafts else 1], object)
    size = len(component)
    sizes = np.ones(size, np.int32), np.array([1 + drafts, drafts][:size], np.int32), np.zeros(size, np.int32)
    return Profile("unpriced", Costs(component, *sizes, np.full(size, 1e-3)), None)
