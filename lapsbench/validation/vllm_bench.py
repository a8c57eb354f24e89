"""vLLM's engine as a validation takes it: steps are timed, and cells served, all in one process."""

from __future__ import annotations

import itertools
import os
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lapsbench.execution.engines import vllm_serving
from lapsbench.schedules import RECORDED
from lapsbench.serving.prompts import FIRST_TOKEN
from lapsbench.vllm.composing import Composed, Shape
from lapsbench.vllm.imposed import Imposed, Recordings, marked, obeyed
from lapsbench.vllm.lookup import NGRAM
from lapsbench.vllm.models import speculation
from lapsbench.vllm.serve import options_of, serve_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lapsbench.core import Policy
    from lapsbench.execution.wanted import Serve
    from lapsbench.serving.clock import Clock, ClockKind
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
        return marked(next(self.accept_runs), self.drafts)


class VllmBench(Composed):
    """An engine whose steps are made up, and that serves."""

    def __init__(self, asked: Measure) -> None:
        engine, wanted = asked.engine, asked.wanted
        self.own = engine.draft_tokens > 0 and wanted.acceptance == "own"
        self.serving, self.accept_runs = False, itertools.cycle(asked.accept_runs.tolist())
        drafts = {**speculation(asked.prepared.draft or NGRAM), "num_speculative_tokens": engine.draft_tokens}
        shape = Shape(
            model=asked.prepared.model,
            drafts=engine.draft_tokens,
            max_batch=engine.max_batch,
            longest=asked.longest,
            batched_tokens=engine.batched_tokens,
            block_tokens=engine.block_tokens,
            dtype=wanted.dtype or "auto",
            speculation=drafts if self.own else None,
            proposer=PROPOSER,
        )
        within = obeyed(lambda: not (self.own and self.serving)) if engine.draft_tokens else nullcontext()
        super().__init__(shape, within=within)
        self.parts = self._parts()
        if self.own:
            self._told_what_to_draft()
        elif engine.draft_tokens:
            self.proposer().accept_runs = self.accept_runs

    def _told_what_to_draft(self) -> None:
        """Have the engine's own drafter do its work, and where steps are timed draft what it is told to."""
        draft = self.proposer().propose

        def propose(*args: Any, **more: Any) -> Any:
            found = draft(*args, **more)
            if self.serving:
                return found
            if isinstance(found, list):  # looked up, for rows that emitted
                emitted: list[list[int]] = args[1]
                return [marked(next(self.accept_runs), self.told.drafts) if each else [] for each in emitted]
            return found.new_tensor([marked(next(self.accept_runs), found.shape[1]) for _ in found])

        self.proposer().propose = propose

    def _parts(self) -> list[Callable[[], None]]:
        """Return what a step with everybody does most of, in two; attention and books are left out.

        All layers; logits and the choice among them, which takes up to a quarter as long as they do.
        """
        runner = self.core.model_executor.driver_worker.worker.model_runner
        tokens = self.shape.max_batch * (1 + self.shape.drafts)
        hidden, _ = runner._dummy_run(tokens)  # noqa: SLF001 - vLLM's own name for it
        hidden = hidden.clone()

        def layers() -> None:
            runner._dummy_run(tokens)  # noqa: SLF001

        def tokens_out() -> None:
            runner.model.compute_logits(hidden).float().argmax(-1)

        return [layers, tokens_out]

    def serve(self, asked: Serve, policy: Policy, make_clock: Callable[[ClockKind], Clock]) -> None:
        """Serve a cell as an engine of its own would, and be measured again after it."""
        self.drop(list(self.seated))
        scheduler, serving = self.scheduler, vllm_serving(asked, policy)
        scheduler.max_num_scheduled_tokens, before = self.shape.batched_tokens, scheduler.options
        scheduler.use(replace(before, **options_of(asked.work, asked.setup, serving)))
        scheduler.begin(os.devnull)  # so that warming up warms this policy
        if self.shape.drafts and not self.own:
            varies = asked.engine.drafts == RECORDED
            self.proposer().recordings = Recordings(asked.work, FIRST_TOKEN, varies=varies)
        self.serving = True
        try:
            serve_on(self.llm, asked.work, asked.setup, serving, make_clock)
        finally:
            self.serving = False
            if self.shape.drafts and not self.own:
                self.proposer().recordings = None
            self.llm.reset_prefix_cache()
            scheduler.use(before)
            scheduler.begin(os.devnull)

    def proposer(self) -> Any:
        """Return who drafts, if anybody does."""
        return self.core.model_executor.driver_worker.worker.model_runner.drafter
