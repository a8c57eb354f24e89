"""Whole steps as they are served, of made-up requests, for what has no time of its own.

On a GPU the host launches ahead of the device: what is launched kernel by kernel hides behind what was launched before
it, and what the host does between two steps hides behind nothing. Only a whole step tells either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.serving.executor import Executor, Part, Text

if TYPE_CHECKING:
    from torch import Tensor

    from lapsbench.decoding.drafts import Draft
    from lapsbench.decoding.network import Network

FAR = 2**40
"""A limit no request reaches."""


class ServedStep:
    """A step that can be taken again and again.

    Args:
        target: with slots for all, whose caches hold anything.
        draft: what drafts; None where nothing does.
        draft_tokens: k of every round.
        rounds: requests that do one.
        context: tokens these have cached.
        chunk: tokens of a prompt beside them, and how many of it are cached; None for no chunk.
        said: int64, random tokens, as many as the longest request has.
        eager: never capture CUDA graphs.
    """

    def __init__(
        self,
        target: Network,
        draft: Draft | None,
        draft_tokens: int,
        *,
        rounds: int,
        context: int,
        chunk: tuple[int, int] | None,
        said: Tensor,
        eager: bool,
    ) -> None:
        self.executor = Executor(target, draft, draft_tokens, eager=eager)
        self.rounds, self.context, self.chunk = list(range(rounds)), context, chunk
        self.drafts = [draft_tokens] * rounds
        tokens = said.tolist()
        texts = self.executor.texts
        for request in self.rounds:
            texts[request] = Text(tokens[: context + 1], 1, FAR, context)
        self.parts: list[Part] = []
        if chunk is not None:
            new, cached = chunk
            texts[rounds] = Text(tokens[: cached + new], cached + new, FAR, cached)
            self.parts = [Part(rounds, new)]
        self.executor.seat(list(texts))

    def take(self) -> None:
        """Take the step, and wait for what it says."""
        self.executor.step(self.rounds, self.parts, self.drafts, self.drafts)

    def rewind(self) -> None:
        """Have it never been taken."""
        texts = self.executor.texts
        for request in self.rounds:
            del texts[request].tokens[self.context + 1 :]
            texts[request].cached_tokens = self.context
        self.executor.rows.lengths[: len(self.rounds)] = self.context
        if self.chunk is not None:
            new, cached = self.chunk
            del texts[len(self.rounds)].tokens[cached + new :]
            texts[len(self.rounds)].cached_tokens = cached
