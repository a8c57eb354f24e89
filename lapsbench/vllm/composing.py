"""Times steps of vLLM's engine that are made up as asked: so many rounds at a context, so many tokens of a prompt.

The steps are the ones a served engine takes, from one `step` to the next, under our scheduler: a request is sent within
the step that begins with it, and whatever comes between the passes of the model is part of the step. A step's parts:
drafting, the target's pass (all else that the executor does), and overhead (what is left).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lapsbench.policies.registry import find
from lapsbench.streams import stream
from lapsbench.vllm.engine import made
from lapsbench.vllm.fixed import PROPOSER, Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

FIRST_TOKEN = 100
"""Tokens below this may be special."""
MOST_OUTPUT = 1 << 12


@dataclass(frozen=True, slots=True)
class Shape:
    """What an engine is measured with.

    Attributes:
        speculation: vLLM's speculative configuration; without one, drafts are as many as `Composed.told` says.
        log: where the step log goes, which a served engine writes too.
        proposer: whose drafts they are without `speculation`, as vLLM's `custom_class`.
    """

    model: str
    drafts: int
    max_batch: int
    longest: int
    batched_tokens: int
    block_tokens: int
    dtype: str
    speculation: Mapping[str, Any] | None = None
    log: str = os.devnull
    proposer: str = PROPOSER


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step took, in seconds."""

    whole_s: float
    target_s: float
    draft_s: float

    @property
    def overhead_s(self) -> float:
        """What is no pass of any model."""
        return self.whole_s - self.target_s - self.draft_s


class Composed:
    """An engine whose steps are made up.

    Args:
        shape: what it is made for.
        clock: seconds; `time.thread_time` where the engine is one thread of this process, else the wall's.
        within: in which context it is made.
    """

    def __init__(
        self,
        shape: Shape,
        clock: Callable[[], float] = time.thread_time,
        within: AbstractContextManager[Any] | None = None,
    ) -> None:
        self.shape, self.clock, self.told = shape, clock, Told(shape.drafts)
        settings: dict[str, Any] = {
            "model": shape.model,
            "dtype": shape.dtype,
            "max_model_len": shape.longest,
            "max_num_seqs": shape.max_batch,
            "max_num_batched_tokens": shape.batched_tokens,
            "block_size": shape.block_tokens,
            "enable_prefix_caching": True,
            "skip_tokenizer_init": True,
        }
        if shape.drafts:
            drafts = {"method": "custom_class", "model": shape.proposer, "num_speculative_tokens": shape.drafts}
            settings["speculative_config"] = dict(shape.speculation or drafts)
        policy = find("fcfs")
        options = {"policy": policy, "on_preempt": "recompute", "log": shape.log, "told": self.told}
        self.llm = made(settings, options, within)
        self.core = self.llm.engine_core.engine_core
        self.scheduler, self.draw = self.core.scheduler, stream(0, "profile/vllm")
        self.scheduler.clock = clock
        self.vocabulary = self.llm.model_config.get_vocab_size()
        self.target_s = self.draft_s = 0.0
        self.sent, self.context, self.last = 0, 0, ""
        self.seated: list[str] = []
        self._watch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.llm.engine_core.shutdown()

    def _watch(self) -> None:
        """Note what the executor takes, and of that, what drafting does."""
        executor = self.core.model_executor
        for name in ("execute_model", "sample_tokens"):
            setattr(executor, name, self._timed(getattr(executor, name), "target_s"))
        if self.shape.drafts:
            runner = executor.driver_worker.worker.model_runner
            runner.propose_draft_token_ids = self._timed(runner.propose_draft_token_ids, "draft_s")

    def _timed(self, called: Callable[..., Any], total: str) -> Callable[..., Any]:
        def timed(*args: Any, **more: Any) -> Any:
            began_s = self.clock()
            try:
                return called(*args, **more)
            finally:
                setattr(self, total, getattr(self, total) + self.clock() - began_s)

        return timed

    def drawn(self, tokens: int) -> list[int]:
        """Return a prompt that is like no other."""
        return list(self.draw.integers(FIRST_TOKEN, self.vocabulary, tokens).tolist())

    def send(self, prompt: list[int], most_tokens: int = MOST_OUTPUT, end: int | None = None) -> str:
        """Send a request, which ends before `most_tokens` only where it says `end`; return its name."""
        from vllm import SamplingParams  # noqa: PLC0415 - vLLM takes seconds to import

        name = str(self.sent)
        self.sent += 1
        asked = SamplingParams(
            temperature=0.0,
            max_tokens=most_tokens,
            ignore_eos=True,
            stop_token_ids=None if end is None else [end],
            detokenize=False,
        )
        self.llm.add_request(name, {"prompt_token_ids": prompt}, asked)
        return name

    def step(self, budget: int = 0, prompt_tokens: int = 0) -> Taken:
        """Take a step, sending a request at first where one is asked for; 0: the whole budget of tokens."""
        self.scheduler.max_num_scheduled_tokens = budget or self.shape.batched_tokens
        self.target_s = self.draft_s = 0.0
        began_s = self.clock()
        if prompt_tokens:
            self.last = self.send(self.drawn(prompt_tokens))
        self.llm.step()
        whole_s = self.clock() - began_s
        return Taken(whole_s, self.target_s - self.draft_s, self.draft_s)

    def drop(self, names: list[str]) -> None:
        """Take requests out, and let the engine settle."""
        if names:
            self.llm.abort_request(names)
            self.seated = [name for name in self.seated if name not in names]
            self.llm.step()

    def seat(self, rounds: int, context_tokens: int) -> None:
        """Have so many requests decode, at about this context."""
        if context_tokens != self.context or rounds > len(self.seated):
            self.drop(list(self.seated))
            self.context = context_tokens
            self.seated = [self.send(self.drawn(context_tokens)) for _ in range(rounds)]
        self.drop(self.seated[rounds:])
        self.wait()

    def wait(self) -> None:
        """Step until everybody decodes."""
        while any(not request.num_output_tokens for request in self.scheduler.requests.values()):
            self.step()

    def rounds(self, repeats: int) -> Iterator[Taken]:
        """Time steps with rounds alone, each as it is asked for."""
        self.step()
        for _ in range(repeats):
            yield self.step()

    def chunk(self, tokens: int, cached: int) -> Taken:
        """Time a step with the rounds that are seated and so many tokens of a prompt, of which some are cached."""
        busy = len(self.seated) * (1 + self.told.drafts)
        if cached:
            self.step(busy + cached, cached + tokens)
        taken = self.step(busy + tokens, 0 if cached else tokens)
        self.drop([self.last])
        return taken

    def tell(self, drafts: int) -> None:
        """Have rounds draft so many tokens from the next step on."""
        if drafts != self.told.drafts:
            self.told.drafts = drafts
            if self.seated:
                self.step()

    def mean_context(self) -> float:
        """Return the mean context of who decodes."""
        return float(np.mean([request.num_tokens for request in self.scheduler.requests.values()]))
