"""Record acceptance: one teacher-forced pass over known outputs gives `accept_runs` for every position and every k.

A round that starts when g output tokens exist drafts after prompt + output[:g]. As long as its drafts are accepted they
*are* the output, so the draft need only be asked once for each position, with the output before it (docs/model.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lapsbench.decoding.drafts import ModelDraft, NgramDraft
from lapsbench.decoding.lookup import look_up
from lapsbench.decoding.verify import distribution, most_likely
from lapsbench.profile.forcing import teacher_forced
from lapsbench.streams import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lapsbench.core import Bytes, Floats
    from lapsbench.decoding.network import Network
    from lapsbench.profile.forcing import Chunk

Bits = NDArray[np.bool_]
S = TypeVar("S", bound=np.generic)

LOOKUP_ROWS = 256
"""Positions looked up at a time."""


@dataclass(frozen=True, slots=True)
class Chances:
    """Chances of acceptance along one sampled output, for a draft at the same temperature.

    Attributes:
        overlap: float64 [n], sum over v of min(p, q): before the target's token is known (arXiv 2211.17192, 3.1).
        given: float64 [n], min(1, q(x) / p(x)) for the token x that was emitted: what is left once it is known. Its
            mean over x drawn from p is the overlap; drawing with it keeps acceptance and text together.
    """

    overlap: Floats
    given: Floats


def greedy_runs(
    draft: ModelDraft | NgramDraft,
    prompts: Sequence[Sequence[int]],
    outputs: Sequence[Sequence[int]],
    draft_tokens_max: int,
) -> list[Bytes]:
    """Return accept_runs uint8 [n] of each greedy output, for rounds that start at g = 0 .. n - 1.

    Runs end with the output: hand in outputs longer by `draft_tokens_max` and cut the result, where the last positions
    shall know what comes after.

    Args:
        draft: what would have drafted.
        prompts: token sequences.
        outputs: what the target said to each, by greedy decoding.
        draft_tokens_max: runs are cut there; at most 255.
    """
    if isinstance(draft, NgramDraft):
        return _looked_up(draft, prompts, outputs, draft_tokens_max)
    sequences = _joined(prompts, outputs)
    matches = [np.zeros(len(sequence) - 1, dtype=np.bool_) for sequence in sequences]
    for chunk in teacher_forced([draft.network], sequences):
        _spread(chunk, most_likely(chunk.logits[0]) == chunk.following, matches)
    parts = _output_parts(prompts, matches)
    return [runs_of(part, draft_tokens_max) for part in parts]


def sampled_chances(
    target: Network,
    draft: ModelDraft,
    prompts: Sequence[Sequence[int]],
    outputs: Sequence[Sequence[int]],
    temperature: float,
) -> list[Chances]:
    """Return the chances of acceptance along each output, which the target sampled at this temperature."""
    sequences = _joined(prompts, outputs)
    overlap = [np.zeros(len(sequence) - 1) for sequence in sequences]
    given = [np.zeros(len(sequence) - 1) for sequence in sequences]
    for chunk in teacher_forced([target, draft.network], sequences):
        p, q = (distribution(logits, temperature) for logits in chunk.logits)
        _spread(chunk, torch.minimum(p, q).sum(dim=-1), overlap)
        emitted = chunk.following.clamp(min=0)[..., None]
        ratio = q.gather(2, emitted) / p.gather(2, emitted).clamp(min=torch.finfo(p.dtype).tiny)
        _spread(chunk, ratio[..., 0].clamp(max=1), given)
    parts = zip(_output_parts(prompts, overlap), _output_parts(prompts, given), strict=True)
    return [Chances(*part) for part in parts]


def sampled_runs(
    target: Network,
    draft: ModelDraft | NgramDraft,
    prompts: Sequence[Sequence[int]],
    outputs: Sequence[Sequence[int]],
    draft_tokens_max: int,
    *,
    temperature: float,
    seed: int,
) -> list[Bytes]:
    """Return accept_runs of each sampled output, drawn by the stream "profile/acceptance/NUMBER" of `seed`.

    Whether position j is accepted is drawn once, and serves every round that reaches it. A draft that is certain of its
    tokens leaves nothing to draw: it is accepted where it said what was emitted.
    """
    if isinstance(draft, NgramDraft):
        return _looked_up(draft, prompts, outputs, draft_tokens_max)
    chances = sampled_chances(target, draft, prompts, outputs, temperature)
    draws = (stream(seed, f"profile/acceptance/{number}") for number in range(len(chances)))
    return [
        runs_of(generator.random(len(chance.given)) < chance.given, draft_tokens_max)
        for chance, generator in zip(chances, draws, strict=True)
    ]


def runs_of(matches: Bits, draft_tokens_max: int) -> Bytes:
    """Return uint8 [n]: how many of matches[g], matches[g + 1], ... hold before the first that does not, cut."""
    ends = np.flatnonzero(~matches)
    places = np.arange(len(matches))
    following_end = np.append(ends, len(matches))[np.searchsorted(ends, places)]
    return np.minimum(following_end - places, draft_tokens_max).astype(np.uint8)


def implied_rounds(accept_runs: Bytes, output_tokens: int, draft_tokens: int) -> list[int]:
    """Return the drafts accepted in each round of a decoder with k = `draft_tokens` that emits so many tokens.

    Prefill emits the first token, so rounds start at g = 1; one that accepts a emits a + 1, the last is cut.
    """
    accepted: list[int] = []
    emitted = 1
    while emitted < output_tokens:
        run = min(int(accept_runs[emitted]), draft_tokens, output_tokens - emitted - 1)
        accepted.append(run)
        emitted += run + 1
    return accepted


def _looked_up(
    draft: NgramDraft, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], draft_tokens_max: int
) -> list[Bytes]:
    """Return accept_runs of prompt lookup: what it proposes at each g, against what was said."""
    return [
        np.concatenate(
            [
                _looked_up_part(draft, [*prompt, *output], len(prompt), start, draft_tokens_max)
                for start in range(0, len(output), LOOKUP_ROWS)
            ]
        )
        for prompt, output in zip(prompts, outputs, strict=True)
    ]


def _looked_up_part(draft: NgramDraft, sequence: list[int], prompt: int, start: int, k: int) -> Bytes:
    known = torch.arange(prompt + start, min(prompt + start + LOOKUP_ROWS, len(sequence)))
    history = torch.tensor(sequence)
    proposed, counts = look_up(history.expand(len(known), -1), known, draft.ngram, k)
    drafts = torch.arange(k)
    said = torch.cat([history, history.new_full((k,), -1)])[known[:, None] + drafts]
    stands = (proposed == said) & (drafts < counts[:, None])
    return stands.long().cumprod(dim=1).sum(dim=1).numpy().astype(np.uint8)


def _joined(prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> list[list[int]]:
    return [[*prompt, *output] for prompt, output in zip(prompts, outputs, strict=True)]


def _spread(chunk: Chunk, values: Tensor, arrays: Sequence[NDArray[np.bool_] | Floats]) -> None:
    """Write the chunk's values [B, c] to the places of its sequences, as far as each goes."""
    host = values.cpu().numpy()
    for row, sequence in enumerate(chunk.rows):
        part = arrays[sequence][chunk.start : chunk.start + host.shape[1]]
        part[:] = host[row, : len(part)]


def _output_parts(prompts: Sequence[Sequence[int]], arrays: Sequence[NDArray[S]]) -> list[NDArray[S]]:
    """Return of each sequence what concerns its output: the value at place i is about the token at i + 1."""
    return [array[len(prompt) - 1 :] for prompt, array in zip(prompts, arrays, strict=True)]
