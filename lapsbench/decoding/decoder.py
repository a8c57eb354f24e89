"""The speculative decoder: draft, verify, bookkeeping, and rounds built of them.

A round: the draft proposes k tokens, the target verifies them in one pass, the accepted ones and one token of the
target's own are emitted. Each part is a method of its own, with no work for Python beyond launching it, so that it can
be timed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from lapsbench.decoding.batch import Batch, Emission, Proposal
from lapsbench.decoding.drafts import ModelDraft, check_vocabularies
from lapsbench.decoding.graphs import Runner
from lapsbench.decoding.network import Chunk
from lapsbench.decoding.prompts import take_in
from lapsbench.decoding.verify import accept_greedy, accept_sampled, choose, distribution, impose, most_likely
from lapsbench.errors import LapsbenchError
from lapsbench.streams import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lapsbench.decoding.drafts import Draft
    from lapsbench.decoding.network import Network


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen: the most likely at temperature 0, else draws from the generator."""

    temperature: float
    generator: torch.Generator

    @classmethod
    def seeded(cls, temperature: float, seed: int, device: torch.device) -> Sampling:
        """Return sampling by the stream "profile/decode" of `seed`."""
        number = int(stream(seed, "profile/decode").integers(2**63))
        return cls(temperature, torch.Generator(device).manual_seed(number))

    def uniform(self, rows: int, columns: int) -> Tensor:
        """Return float64 [rows, columns] in [0, 1)."""
        generator = self.generator
        return torch.rand(rows, columns, generator=generator, device=generator.device, dtype=torch.float64)


class Decoder:
    """A target, a draft, and k.

    Args:
        target: what must be obeyed.
        draft: what proposes; None for plain decoding.
        draft_tokens: k; 0 for plain decoding.
        eager: never capture CUDA graphs.

    Raises:
        LapsbenchError: target and draft differ in vocabulary, or the draft has less room than the target.
    """

    def __init__(self, target: Network, draft: Draft | None, draft_tokens: int, *, eager: bool = False) -> None:
        if isinstance(draft, ModelDraft):
            check_vocabularies(target, draft.network)
            _check_room(target, draft.network)
        self.target = target
        self.draft = draft
        self.draft_tokens = draft_tokens if draft is not None else 0
        self.runner = Runner(target.device, eager=eager)

    def batch(self, rows: int) -> Batch:
        """Return a batch of `rows` rows that stand still: history zeros, one token each, at their limits."""
        ones = torch.ones(rows, dtype=torch.int64, device=self.target.device)
        history = torch.zeros(rows, self.target.room, dtype=torch.int64, device=self.target.device)
        return Batch(history, ones, 2 * ones, self.target.span(self.draft_tokens + 2))

    def prefill(self, row: int, tokens: Tensor, cached: int = 0) -> Tensor:
        """Write int64 [n] tokens into the target's slot after its first `cached` ones; return logits [V]."""
        return take_in(self.target, Chunk(row, tokens, cached), self.runner)

    def draft_prefill(self, row: int, tokens: Tensor, cached: int = 0) -> None:
        """Do the same for the draft, if there is one."""
        if self.draft is not None:
            self.draft.take_in([Chunk(row, tokens, cached)], self.runner)

    def draft_round(self, batch: Batch, sampling: Sampling, chunks: Sequence[Chunk] = ()) -> Proposal:
        """Return the whole drafting of a round, no drafts where k is 0; chunks of prompts are taken in on the way."""
        rows = len(batch)
        if self.draft is None or self.draft_tokens == 0:
            return Proposal(batch.history[:, :0], torch.zeros_like(batch.lengths))
        uniform = sampling.uniform(rows, self.draft_tokens)
        return self.draft.propose(
            batch, self.draft_tokens, self.runner, temperature=sampling.temperature, uniform=uniform, chunks=chunks
        )

    def verify_step(self, batch: Batch, tokens: Tensor) -> Tensor:
        """Return the target's logits [B, q, V] of int64 [B, q] tokens, the rows' last token first.

        On CUDA they hold until the next verification.
        """

        def step(tokens: Tensor, lengths: Tensor) -> Tensor:
            return self.target.forward(tokens, lengths, span=batch.span)

        shape = (len(batch), tokens.shape[1], batch.span)
        return self.runner.call("verify", shape, step, tokens, batch.lengths)

    @torch.no_grad()
    def bookkeeping(
        self, batch: Batch, proposal: Proposal, logits: Tensor, sampling: Sampling, imposed: Tensor | None = None
    ) -> Emission:
        """Accept or replace drafts, write what is emitted into the batch, bring it to the host: a step's overhead.

        A row never drafts beyond its limit less one: the target's own token always has a place.

        Args:
            batch: where the rows stand.
            proposal: what was drafted.
            logits: the target's, of the last token and each draft.
            sampling: how tokens are chosen.
            imposed: int64 [B], drafts that stand whatever the target says of them; only at temperature 0.
        """
        remaining = batch.remaining
        drafted = torch.minimum(proposal.counts, remaining - 1).clamp(min=0)
        if imposed is None:
            accepted, following = self._accept(proposal, drafted, logits, sampling)
        else:
            accepted, following = impose(most_likely(logits), imposed, drafted)
        emitted = torch.where(remaining > 0, accepted + 1, 0)
        places = torch.arange(logits.shape[1], device=logits.device)
        padded = torch.cat([proposal.tokens, following[:, None]], dim=1)
        tokens = torch.where(places == accepted[:, None], following[:, None], padded)
        batch.history.scatter_(1, batch.lengths[:, None] + 1 + places, tokens)
        batch.lengths.add_(emitted)
        host = torch.cat([tokens, emitted[:, None], drafted[:, None]], dim=1).cpu()
        return Emission(host[:, :-2], host[:, -2], host[:, -1])

    def round(self, batch: Batch, sampling: Sampling) -> Emission:
        """Draft, verify, keep the books."""
        proposal = self.draft_round(batch, sampling)
        logits = self.verify_step(batch, torch.cat([batch.last, proposal.tokens], dim=1))
        return self.bookkeeping(batch, proposal, logits, sampling)

    def admit(self, batch: Batch, row: int, prompt: Sequence[int], new_tokens: int, sampling: Sampling) -> int:
        """Prefill a prompt into a row of the batch; return the first token it emits."""
        device = self.target.device
        tokens = torch.tensor(list(prompt), dtype=torch.int64, device=device)
        logits = self.prefill(row, tokens)
        self.draft_prefill(row, tokens)
        first, _ = choose(logits[None], sampling.temperature, sampling.uniform(1, 1)[:, 0])
        batch.history[row, : len(tokens)] = tokens
        batch.history[row, len(tokens)] = first[0]
        batch.lengths[row] = len(tokens)
        batch.limits[row] = len(tokens) + new_tokens
        return int(first)

    def spanning(self, batch: Batch, tokens: int) -> Batch:
        """Return the batch with attention wide enough for rows of up to so many tokens in the cache, and a round."""
        return replace(batch, span=self.target.span(tokens + self.draft_tokens + 1))

    def _accept(self, proposal: Proposal, drafted: Tensor, logits: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
        if sampling.temperature == 0:
            return accept_greedy(most_likely(logits), proposal.tokens, drafted)
        uniform = sampling.uniform(*logits.shape[:2])
        probabilities = distribution(logits, sampling.temperature)
        return accept_sampled(probabilities, proposal.tokens, drafted, proposal.probabilities, uniform)


def _check_room(target: Network, draft: Network) -> None:
    if draft.room < target.room or draft.slots < target.slots:
        raise LapsbenchError(
            f"the draft holds {draft.slots} sequences of {draft.room} tokens, "
            f"the target {target.slots} of {target.room}",
            hint="the same slots and room for both",
        )
