"""What proposes tokens: a smaller model, or the text itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from lapsbench.decoding import prompts
from lapsbench.decoding.batch import Proposal
from lapsbench.decoding.lookup import look_up
from lapsbench.decoding.verify import choose
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lapsbench.decoding.batch import Batch
    from lapsbench.decoding.graphs import Runner
    from lapsbench.decoding.network import Chunk, Network


class Draft(Protocol):
    """Proposes tokens for every row of a batch."""

    @property
    def label(self) -> str:
        """What it is and what its numbers are worth, for people."""

    def take_in(self, chunks: Sequence[Chunk], runner: Runner) -> None:
        """Take in chunks of prompts, where nothing is captured in one pass."""

    def propose(
        self,
        batch: Batch,
        draft_tokens: int,
        runner: Runner,
        *,
        temperature: float = 0.0,
        uniform: Tensor,
        chunks: Sequence[Chunk] = (),
    ) -> Proposal:
        """Return k tokens for each row; on CUDA they hold until the next proposal.

        Args:
            batch: where the rows stand.
            draft_tokens: k, >= 1.
            runner: what runs the steps.
            temperature: 0 for the most likely tokens.
            uniform: float64 [B, k] in [0, 1), one for each draw.
            chunks: of prompts of other slots, taken in on the way; none where steps are captured.
        """


class ModelDraft:
    """A model that drafts one token after the other.

    Its cache needs no roll-back and no catching up: a round begins by feeding the last token and the one before it.
    Where everything was accepted, the one before is the draft's own last token, which it had not read yet; elsewhere
    the same key is written again. Two tokens cost one pass over the weights, as one would.
    """

    def __init__(self, network: Network, label: str) -> None:
        self.network = network
        self._label = label

    @property
    def label(self) -> str:
        """As told at creation."""
        return self._label

    def take_in(self, chunks: Sequence[Chunk], runner: Runner) -> None:
        """Write the chunks into the draft's own cache."""
        if runner.captures:
            for chunk in chunks:
                prompts.take_in(self.network, chunk, runner)
            return
        nobody = torch.zeros(0, 1, dtype=torch.int64, device=self.network.device)
        self.network.mixed(nobody, nobody[:, 0], chunks, span=0)

    def propose(
        self,
        batch: Batch,
        draft_tokens: int,
        runner: Runner,
        *,
        temperature: float = 0.0,
        uniform: Tensor,
        chunks: Sequence[Chunk] = (),
    ) -> Proposal:
        """Return k drafted tokens for each row; on CUDA the whole chain is one graph."""

        def chain(pair: Tensor, lengths: Tensor, uniform: Tensor) -> Proposal:
            fed, place = pair, lengths - 1
            tokens, drawn_from = [], []
            for step in range(draft_tokens):
                if chunks and step == 0:  # one pass over the weights for both
                    logits = self.network.mixed(fed, place, chunks, span=batch.span, keep=1)[0][:, -1]
                else:
                    logits = self.network.forward(fed, place, span=batch.span, keep=1)[:, -1]
                token, probabilities = choose(logits, temperature, uniform[:, step])
                tokens.append(token)
                if probabilities is not None:
                    drawn_from.append(probabilities)
                fed, place = token[:, None], lengths + 1 + step
            counts = torch.full_like(lengths, draft_tokens)
            return Proposal(torch.stack(tokens, 1), counts, torch.stack(drawn_from, 1) if drawn_from else None)

        if chunks:  # nothing is captured where there are any
            return chain(batch.pair, batch.lengths, uniform)
        shape = (id(self), len(batch), draft_tokens, batch.span, temperature)
        return runner.call("draft", shape, chain, batch.pair, batch.lengths, uniform)


class NgramDraft:
    """Prompt lookup of the last up to `ngram` tokens over prompt and output; certain of what it proposes."""

    def __init__(self, ngram: int) -> None:
        self.ngram = ngram

    @property
    def label(self) -> str:
        """As typed."""
        return f"ngram:{self.ngram}"

    def take_in(self, chunks: Sequence[Chunk], runner: Runner) -> None:
        """Do nothing: the batch's history is all it reads."""

    def propose(
        self,
        batch: Batch,
        draft_tokens: int,
        runner: Runner,
        *,
        temperature: float = 0.0,
        uniform: Tensor,
        chunks: Sequence[Chunk] = (),
    ) -> Proposal:
        """Return what followed the same words before; nothing is drawn, nor taken in."""
        del temperature, uniform, chunks

        def find(history: Tensor, lengths: Tensor) -> Proposal:
            return Proposal(*look_up(history, lengths + 1, self.ngram, draft_tokens))

        shape = (id(self), len(batch), draft_tokens)
        return runner.call("draft", shape, find, batch.history, batch.lengths)


def check_vocabularies(target: Network, draft: Network) -> None:
    """Refuse a draft whose tokens are not the target's.

    Raises:
        LapsbenchError: the vocabularies differ in size.
    """
    if target.vocabulary != draft.vocabulary:
        raise LapsbenchError(
            f"the draft has {draft.vocabulary} tokens in its vocabulary, the target {target.vocabulary}",
            where="--draft",
            hint="a draft of the target's family, or one made from the target such as ngram:4 or self:drop=1",
        )
