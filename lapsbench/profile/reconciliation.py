"""Two ways of counting acceptance must agree: what the recording implies, and what the decoder does.

The recording comes from teacher forcing, the rounds from drafting and verifying in the slot cache. They share the
models and little else, so a fault in either shows here, before anybody plans with the numbers.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lapsbench.decoding.decoder import Decoder
from lapsbench.decoding.generation import generate
from lapsbench.errors import LapsbenchError
from lapsbench.profile.accept_runs import implied_rounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.core import Bank
    from lapsbench.decoding.drafts import Draft
    from lapsbench.decoding.network import Network
    from lapsbench.profile.prompts import Encoded

EXACT = (torch.float32, torch.float64)
ROUNDED_BOUND = 0.15
"""Share of rounds that may differ in 16 bits."""
SAMPLED_BOUND = 6.0
"""Standard errors that the mean difference over prompts may have when sampling: with 8 prompts, chance alone exceeds it
once in 2,000 times (Student's t)."""

Rounds = list[list[int]]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """How recording and decoder compare on some prompts, at one k.

    Attributes:
        draft_tokens: k.
        prompts: how many.
        recorded_length, decoded_length: acceptance length, pooled: tokens per round, the target's own included.
        compared: rounds compared: of each prompt up to its first difference, since after it the texts differ. When
            sampling, texts differ from the start: the prompts with a round are compared as a whole.
        difference: share of the rounds compared that differ; when sampling, standard errors of the mean difference.
        bound: what that may be at most.
        sampled: whether it was sampling.
    """

    draft_tokens: int
    prompts: int
    recorded_length: float | None
    decoded_length: float | None
    compared: int
    difference: float
    bound: float
    sampled: bool

    @property
    def agrees(self) -> bool:
        """Whether the difference is within its bound."""
        return self.difference <= self.bound

    @property
    def text(self) -> str:
        """One line for people."""
        recorded, decoded = (
            "none" if length is None else f"{length:.3f}" for length in (self.recorded_length, self.decoded_length)
        )
        if self.sampled:
            differ = f"{self.difference:.1f} standard errors apart over {self.compared} prompts"
        else:
            differ = f"{round(self.difference * self.compared)} of {self.compared} rounds differ"
        bound = f"{self.bound:g} allowed" if self.sampled else f"{self.bound:.0%} allowed"
        return (
            f"acceptance length at k = {self.draft_tokens} on {self.prompts} prompts: {recorded} recorded, "
            f"{decoded} decoded; {differ}, {bound}"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """For the provenance, JSON-able."""
        return asdict(self)


def reconcile(
    target: Network,
    draft: Draft,
    prompts: Sequence[Encoded],
    bank: Bank,
    *,
    draft_tokens: int,
    max_new_tokens: int,
    eos: Sequence[int],
    temperature: float = 0.0,
    seed: int = 0,
) -> Reconciliation:
    """Decode some of the recorded prompts speculatively, and compare the rounds with those the recordings imply.

    In float32 every round must be the same. In 16 bits a pass over one token and a pass over k + 1 round differently,
    so where the two likeliest tokens nearly tie, the texts part; a fault parts them at most rounds. When sampling, the
    texts are other draws: the mean difference of the prompts' accepted drafts per round must be near 0.

    Raises:
        LapsbenchError: they differ by more than the bound.
    """
    generation = generate(
        Decoder(target, draft, draft_tokens),
        [prompt.tokens for prompt in prompts],
        max_new_tokens,
        temperature=temperature,
        seed=seed,
        eos=eos[0] if eos else None,
    )
    decoded = [_up_to(output.accepted, len(until_eos(output.tokens, eos))) for output in generation.outputs]
    recorded = [_recorded(bank, prompt.prompt_id, draft_tokens) for prompt in prompts]
    if temperature == 0:
        compared, difference = _differing(recorded, decoded)
        bound = 0.0 if target.dtype in EXACT else ROUNDED_BOUND
    else:
        compared, difference = _standard_errors(recorded, decoded)
        bound = SAMPLED_BOUND
    found = Reconciliation(
        draft_tokens=draft_tokens,
        prompts=len(prompts),
        recorded_length=_pooled(recorded),
        decoded_length=_pooled(decoded),
        compared=compared,
        difference=difference,
        bound=bound,
        sampled=temperature > 0,
    )
    if not found.agrees:
        raise LapsbenchError(
            f"recording and decoder disagree, no profile is written: {found.text}",
            where="acceptance",
            hint="--dtype float32; if it stays, please report it",
        )
    return found


def until_eos(tokens: Sequence[int], eos: Sequence[int]) -> list[int]:
    """Return the tokens up to and with the first that ends an output."""
    ends = (place for place, token in enumerate(tokens) if token in eos)
    return list(tokens[: next(ends, len(tokens)) + 1])


def _recorded(bank: Bank, prompt_id: str, draft_tokens: int) -> list[int]:
    row = int(np.flatnonzero(bank.prompt_id == prompt_id)[0])
    runs = bank.accept_runs[bank.offsets[row] : bank.offsets[row + 1]]
    return implied_rounds(runs, int(bank.output_tokens[row]), draft_tokens)


def _up_to(accepted: Sequence[int], output_tokens: int) -> list[int]:
    """Return the rounds as far as the output goes: the decoder knows one token that ends it, models have several."""
    kept, emitted = [], 1
    for run in accepted:
        if emitted >= output_tokens:
            break
        kept.append(min(run, output_tokens - emitted - 1))
        emitted += run + 1
    return kept


def _differing(recorded: Rounds, decoded: Rounds) -> tuple[int, float]:
    """Return the rounds compared, and the share of them that differ."""
    compared = differing = 0
    for said, done in zip(recorded, decoded, strict=True):
        for one, other in zip_longest(said, done):
            compared += 1
            if one != other:
                differing += 1
                break
    return compared, differing / max(compared, 1)


def _standard_errors(recorded: Rounds, decoded: Rounds) -> tuple[int, float]:
    """Return the prompts compared, and the mean difference of their means in its standard errors."""
    pairs = zip(recorded, decoded, strict=True)
    apart = np.array([np.mean(said) - np.mean(done) for said, done in pairs if said and done])
    if len(apart) < 2 or not np.any(apart):
        return len(apart), 0.0
    return len(apart), float(abs(apart.mean()) / max(apart.std(ddof=1) / math.sqrt(len(apart)), 1e-12))


def _pooled(rounds: Rounds) -> float | None:
    every = [accepted for prompt in rounds for accepted in prompt]
    return 1 + sum(every) / len(every) if every else None
