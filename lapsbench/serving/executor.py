"""Does on the decoder what a step of the scheduler is made of: chunks of prompts, and a round of those who decode.

Who does a round stands in the first slots; everything of a step goes through the weights in one pass. The text of a
request is known here, on the host; what the device has of it follows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from lapsbench.decoding import prompts
from lapsbench.decoding.batch import Batch, Proposal
from lapsbench.decoding.decoder import Decoder, Sampling
from lapsbench.decoding.drafts import ModelDraft
from lapsbench.decoding.network import Chunk
from lapsbench.decoding.verify import most_likely
from lapsbench.serving.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lapsbench.decoding.drafts import Draft
    from lapsbench.decoding.network import Network

ALIGNED = 16
"""Attention reads whole multiples, as where a profile's steps are measured."""
CAPTURED = (1, 2, 4, 8)
"""Rows of CUDA graphs, and after these every multiple of the last: fewer to capture, and rows that stand still."""


@dataclass(slots=True)
class Text:
    """A request's tokens.

    Attributes:
        tokens: of prompt and output.
        prompt_tokens: how many of them are the prompt.
        most_tokens: as many as there will be.
        cached_tokens: how many of them the caches hold.
    """

    tokens: list[int]
    prompt_tokens: int
    most_tokens: int
    cached_tokens: int = 0

    @property
    def output(self) -> list[int]:
        """What was emitted."""
        return self.tokens[self.prompt_tokens :]


@dataclass(frozen=True, slots=True)
class Part:
    """So many tokens of a request's text, to be cached."""

    request: int
    tokens: int


class Executor:
    """A decoder that does steps.

    Args:
        target: with as many slots as requests may run.
        draft: what drafts, or None.
        draft_tokens: the most a round drafts.
        eager: never capture CUDA graphs.
    """

    def __init__(self, target: Network, draft: Draft | None, draft_tokens: int, *, eager: bool = False) -> None:
        self.decoders = {k: Decoder(target, draft, k, eager=eager) for k in range(draft_tokens, -1, -1)}
        self.decoder = self.decoders[draft_tokens]
        for decoder in self.decoders.values():
            decoder.runner = self.decoder.runner
        self.target, self.draft, self.draft_tokens = target, draft, draft_tokens
        self.networks = [target, draft.network] if isinstance(draft, ModelDraft) else [target]
        self.texts: dict[int, Text] = {}
        self.slots = Slots(self.networks, lambda request: self.texts[request].cached_tokens)
        self.rows = self.decoder.batch(target.slots)
        self.of_row: list[int | None] = [None] * target.slots
        self.reach: dict[int, int] = {}
        self.sampling = Sampling.seeded(0.0, 0, target.device)

    def warm_up(self) -> None:
        """Do rounds of nobody: what is made once, every CUDA graph for one, is not to be made while somebody waits."""
        if self.decoder.runner.captures:
            sizes = sorted({min(captured(rows), self.target.slots) for rows in range(1, self.target.slots + 1)})
            spans = sorted({self.target.span(tokens) for tokens in range(self.draft_tokens + 2, self.target.room + 1)})
        else:
            sizes, spans = sorted({1, self.target.slots}), [min(_up(self.draft_tokens + 3, ALIGNED), self.target.room)]
        self._stand_still(0, self.target.slots)
        for batch in (self._first(rows, span) for rows in reversed(sizes) for span in reversed(spans)):
            self.decoder.round(batch, self.sampling)
        for network in self.networks:
            prompts.warm_up(network, self.decoder.runner)

    def forget(self) -> None:
        """Forget everybody: another workload begins."""
        for request in self.texts:
            self.slots.drop(request)
        self.texts.clear()
        self.of_row = [None] * self.target.slots

    def add(self, request: int, prompt: list[int], output_tokens: int) -> None:
        """Take a request in; nothing is cached yet."""
        self.texts[request] = Text(list(prompt), len(prompt), len(prompt) + output_tokens)

    def evict(self, request: int) -> None:
        """Forget a request's keys and values."""
        self.slots.drop(request)
        self.texts[request].cached_tokens = 0

    def seat(self, requests: Sequence[int]) -> None:
        """Let these have slots, and nobody else."""
        wanted = set(requests)
        for request in self.slots.seated:
            if request not in wanted:
                self.slots.park(request)
        here = set(self.slots.seated)
        for request in requests:
            if request not in here:
                self.slots.seat(request)

    def step(
        self, rounds: Sequence[int], parts: Sequence[Part], drafts: Sequence[int], imposed: Sequence[int] | None
    ) -> list[int]:
        """Do a step; return how many drafts of each round were accepted.

        Args:
            rounds: requests that do a round, all seated and their text cached.
            parts: of other seated requests; one whose text begins to be cached to its end emits its first token.
            drafts: for each round.
            imposed: for each round, drafts that stand whatever the target says; None for its own word.
        """
        self.slots.front(rounds)
        self.reach = {part.request: self.texts[part.request].cached_tokens + part.tokens for part in parts}
        chunks = [self._chunk(part) for part in parts]
        proposal, logits, ends = self._read(len(rounds), max(drafts, default=0), chunks)
        if parts:
            self._cached(parts, ends)
        if not rounds:
            return []
        return self._booked(proposal, logits, drafts, imposed, rounds)

    def _read(self, rows: int, k: int, chunks: list[Chunk]) -> tuple[Proposal, Tensor, Tensor]:
        """Draft and verify, and take in the chunks; return drafts, the rows' logits, and those of the chunks' ends."""
        decoder, batch = self.decoders[k], self._batch(rows, k)
        self.batch = batch
        if decoder.runner.captures:
            return self._read_apart(decoder, chunks)
        takes_in = chunks if self.draft_tokens else []
        if len(batch) and k:
            proposal = decoder.draft_round(batch, self.sampling, takes_in)
        else:
            proposal = Proposal(batch.history[:, :0], torch.zeros_like(batch.lengths))
            if takes_in and self.draft is not None:
                self.draft.take_in(takes_in, decoder.runner)
        tokens = torch.cat([batch.last, proposal.tokens], dim=1)
        if not chunks:
            return proposal, decoder.verify_step(batch, tokens), tokens
        logits, ends = self.target.mixed(tokens, batch.lengths, chunks, span=batch.span)
        return proposal, logits, ends

    def _read_apart(self, decoder: Decoder, chunks: list[Chunk]) -> tuple[Proposal, Tensor, Tensor]:
        """Do the same in graphs of their own: every chunk, drafting, verifying."""
        batch, runner = self.batch, decoder.runner
        ends = [prompts.take_in(self.target, chunk, runner) for chunk in chunks]
        if chunks and self.draft is not None and self.draft_tokens:
            self.draft.take_in(chunks, runner)
        said = torch.stack(ends) if ends else batch.history
        proposal = Proposal(batch.history[:, :0], torch.zeros_like(batch.lengths))
        if not len(batch):
            return proposal, said, said
        if decoder.draft_tokens:
            proposal = decoder.draft_round(batch, self.sampling)
        return proposal, decoder.verify_step(batch, torch.cat([batch.last, proposal.tokens], dim=1)), said

    def _booked(
        self,
        proposal: Proposal,
        logits: Tensor,
        drafts: Sequence[int],
        imposed: Sequence[int] | None,
        rounds: Sequence[int],
    ) -> list[int]:
        """Accept, and note what was emitted; return how many drafts of each round were accepted."""
        rows = [self.slots.of(request) for request in rounds]
        most = self._by_row(drafts, rows)
        if imposed is None:
            proposal = replace(proposal, counts=torch.minimum(proposal.counts, most))
            stands = None
        else:
            proposal, stands = replace(proposal, counts=most), self._by_row(imposed, rows)
        emission = self.decoder.bookkeeping(self.batch, proposal, logits, self.sampling, stands)
        tokens, counts = emission.tokens.tolist(), emission.emitted.tolist()
        for request, row in zip(rounds, rows, strict=True):
            text = self.texts[request]
            text.tokens += tokens[row][: counts[row]]
            text.cached_tokens = len(text.tokens) - 1
        return [counts[row] - 1 for row in rows]

    def _by_row(self, values: Sequence[int], rows: Sequence[int]) -> Tensor:
        """Return int64 [B], the values where they belong, and zeros for rows that stand still."""
        found = [0] * len(self.batch)
        for value, row in zip(values, rows, strict=True):
            found[row] = value
        return torch.tensor(found, dtype=torch.int64, device=self.target.device)

    def _batch(self, rows: int, k: int) -> Batch:
        """Return the first slots, brought up to date, as a batch; for a graph, some that stand still behind them."""
        there = self.slots.holders[:rows]
        longest = 1
        for row, request in enumerate(there):
            if request is not None:
                longest = max(longest, len(self.texts[request].tokens))
                if self.of_row[row] != request:
                    self._write_row(row, request)
        if not self.decoder.runner.captures:
            return self._first(rows, min(_up(longest + k + 2, ALIGNED), self.target.room))
        most = min(captured(rows), self.target.slots) if rows else 0
        self._stand_still(rows, most)
        return self._first(most, self.target.span(longest + k + 1))

    def _first(self, rows: int, span: int) -> Batch:
        """Return the first rows; rows that stand still may be past the span, and a graph has but one width."""
        whole = self.rows
        history = whole.history[:rows] if self.decoder.runner.captures else whole.history[:rows, :span]
        return Batch(history, whole.lengths[:rows], whole.limits[:rows], span)

    def _write_row(self, row: int, request: int) -> None:
        """Bring a row up to date with the text of a request that did no round there before."""
        self.of_row = [None if each == request else each for each in self.of_row]
        self.of_row[row] = request
        text = self.texts[request]
        known = torch.tensor(text.tokens, dtype=torch.int64, device=self.target.device)
        self.rows.history[row, : len(known)] = known
        self.rows.lengths[row] = len(known) - 1
        self.rows.limits[row] = text.most_tokens

    def _stand_still(self, first: int, end: int) -> None:
        """Have rows emit nothing; what they write is past what their slots hold when the step is over."""
        held = [1] * (end - first)
        for row in range(first, end):
            self.of_row[row] = None
            if (request := self.slots.holders[row]) is not None:
                held[row - first] = self.reach.get(request, max(self.texts[request].cached_tokens, 1))
        most = self.target.room - self.draft_tokens - 2  # a round has a place behind it
        lengths = torch.tensor(held, dtype=torch.int64, device=self.target.device).clamp(max=most)
        self.rows.lengths[first:end] = lengths
        self.rows.limits[first:end] = lengths + 1

    def _chunk(self, part: Part) -> Chunk:
        text = self.texts[part.request]
        tokens = text.tokens[text.cached_tokens : text.cached_tokens + part.tokens]
        there = torch.tensor(tokens, dtype=torch.int64, device=self.target.device)
        return Chunk(self.slots.of(part.request), there, text.cached_tokens)

    def _cached(self, parts: Sequence[Part], ends: Tensor) -> None:
        """Note what is cached now; who has all its prompt cached and no token yet emits its first."""
        said = most_likely(ends).tolist()
        for part, token in zip(parts, said, strict=True):
            text = self.texts[part.request]
            text.cached_tokens += part.tokens
            if text.cached_tokens == text.prompt_tokens == len(text.tokens):
                text.tokens.append(token)


def captured(rows: int) -> int:
    """Return the rows of the smallest graph for so many."""
    return next((size for size in CAPTURED if size >= rows), _up(rows, CAPTURED[-1]))


def _up(tokens: int, to: int) -> int:
    return -(-tokens // to) * to
