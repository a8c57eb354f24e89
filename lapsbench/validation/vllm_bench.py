"""vLLM's engine as a validation takes it: steps are timed, and cells served, all in one process."""

from __future__ import annotations

import itertools
import os
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from lapsbench.execution.engines import vllm_serving
from lapsbench.serving.prompts import FIRST_TOKEN
from lapsbench.vllm.composing import Composed, Shape
from lapsbench.vllm.imposed import Imposed, Recordings, obeyed
from lapsbench.vllm.serve import options_of, serve_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lapsbench.core import Policy
    from lapsbench.execution.wanted import Serve
    from lapsbench.validation.asked import Measure

PROPOSER = f"{__name__}.Proposer"
"""As vLLM's `custom_class` wants it named."""


class Proposer(Imposed):
    """Drafts as recordings say while a cell is served; without any, as many of them accepted as it is told to."""

    accept_runs: Iterator[int] = itertools.repeat(0)

    def drafted(self, first_token: int, context_tokens: int) -> list[int]:
        """Return a request's drafts."""
        if self.recordings is not None:
            return super().drafted(first_token, context_tokens)
        return self.marked(next(self.accept_runs), self.drafts)


class VllmBench(Composed):
    """An engine whose steps are made up, and that serves."""

    def __init__(self, asked: Measure) -> None:
        engine, wanted = asked.engine, asked.wanted
        shape = Shape(
            model=asked.prepared.model,
            drafts=engine.draft_tokens,
            max_batch=engine.max_batch,
            longest=asked.longest,
            batched_tokens=engine.batched_tokens,
            block_tokens=engine.block_tokens,
            dtype=wanted.dtype or "auto",
            proposer=PROPOSER,
        )
        super().__init__(shape, within=obeyed() if engine.draft_tokens else nullcontext())
        if engine.draft_tokens:
            self.proposer().accept_runs = itertools.cycle(asked.accept_runs.tolist())

    def serve(self, asked: Serve, policy: Policy) -> None:
        """Serve a cell as an engine of its own would, and be measured again after it."""
        self.drop(list(self.seated))
        scheduler, serving = self.scheduler, vllm_serving(asked, policy)
        scheduler.max_num_scheduled_tokens, before = self.shape.batched_tokens, scheduler.options
        scheduler.use(replace(before, **options_of(asked.work, asked.setup, serving)))
        scheduler.begin(os.devnull)  # so that warming up warms this policy
        if self.shape.drafts:
            self.proposer().recordings = Recordings(asked.work, FIRST_TOKEN)
        try:
            serve_on(self.llm, asked.work, asked.setup, serving)
        finally:
            if self.shape.drafts:
                self.proposer().recordings = None
            self.llm.reset_prefix_cache()
            scheduler.use(before)
            scheduler.begin(os.devnull)

    def proposer(self) -> Proposer:
        """Return who drafts, if anybody does."""
        drafter: Proposer = self.core.model_executor.driver_worker.worker.model_runner.drafter
        return drafter
