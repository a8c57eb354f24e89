"""Which drafted tokens stand, and what the target says next: pure functions of tensors.

Sampling is lossless: what is emitted is distributed as if the target had sampled alone (Leviathan, Kalman and Matias,
arXiv 2211.17192, section 2.3 and appendix A.1). Uniform numbers come in from outside, so every draw can be repeated and
a step that draws can be captured as a graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def most_likely(logits: Tensor) -> Tensor:
    """Return the first of the highest logits, int64 [...] of [..., V].

    Not `argmax`: of bfloat16 on a CPU it takes four times as long.
    """
    return logits.max(dim=-1).indices


def choose(logits: Tensor, temperature: float, uniform: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the next token int64 [B] and what it was drawn from [B, V], or None where it was not drawn.

    Args:
        logits: [B, V].
        temperature: 0 for the most likely token.
        uniform: float64 [B] in [0, 1); unused at temperature 0.
    """
    if temperature == 0:
        return most_likely(logits), None
    probabilities = distribution(logits, temperature)
    return pick(probabilities, uniform), probabilities


def distribution(logits: Tensor, temperature: float) -> Tensor:
    """Return the probabilities float32 [..., V] at a temperature above 0."""
    return torch.softmax(logits.float() / temperature, dim=-1)


def pick(weights: Tensor, uniform: Tensor) -> Tensor:
    """Return one token per row int64 [B] by inverting the cumulative sum of weights [B, V] at uniform [B].

    In float64: summed over 128k tokens in float32, the rare ones would round away. A token of weight 0 is never picked.
    """
    sums = weights.double().cumsum(dim=-1)
    aim = uniform[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, aim, right=True)[:, 0].clamp(max=weights.shape[-1] - 1)


def accept_greedy(best: Tensor, drafted: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return accepted drafts int64 [B] and the target's own next token int64 [B].

    Accepted are the leading drafts that equal the target's choice; the next token is its choice after them: the
    correction of the first wrong draft, or the bonus.

    Args:
        best: int64 [B, k + 1], the target's most likely token after the last token and after each draft.
        drafted: int64 [B, k].
        counts: int64 [B], drafts that are not padding.
    """
    accepted = _leading(best[:, :-1] == drafted, counts)
    return accepted, best.gather(1, accepted[:, None])[:, 0]


def impose(best: Tensor, imposed: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return accepted drafts and next tokens as `accept_greedy` does, where so many drafts stand whatever they are."""
    accepted = torch.minimum(imposed, counts)
    return accepted, best.gather(1, accepted[:, None])[:, 0]


def accept_sampled(
    target: Tensor, drafted: Tensor, counts: Tensor, draft: Tensor | None, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """Return accepted drafts int64 [B] and the next token int64 [B] of lossless rejection sampling.

    A draft x stands with probability min(1, p(x) / q(x)). The first that falls is replaced by a draw from
    max(0, p - q), normalised; where none falls, the bonus is drawn from p.

    Args:
        target: [B, k + 1, V], p after the last token and after each draft.
        drafted: int64 [B, k].
        counts: int64 [B], drafts that are not padding.
        draft: [B, k, V], q of each draft; None where the draft put all its weight on its token.
        uniform: float64 [B, k + 1] in [0, 1): one for each draft, one for the next token.
    """
    p = target[:, :-1].gather(2, drafted[..., None])[..., 0]
    q = torch.ones_like(p) if draft is None else draft.gather(2, drafted[..., None])[..., 0]
    accepted = _leading(uniform[:, :-1] * q < p, counts)
    return accepted, pick(_next_weights(target, drafted, accepted, counts, draft), uniform[:, -1])


def _leading(stands: Tensor, counts: Tensor) -> Tensor:
    drafts = torch.arange(stands.shape[1], device=stands.device)
    return (stands & (drafts < counts[:, None])).long().cumprod(dim=1).sum(dim=1)


def _next_weights(target: Tensor, drafted: Tensor, accepted: Tensor, counts: Tensor, draft: Tensor | None) -> Tensor:
    """Return [B, V], unnormalised: p - q above 0 where a draft fell, p where none did."""
    p = target.gather(1, accepted[:, None, None].expand(-1, 1, target.shape[2]))[:, 0]
    if drafted.shape[1] == 0:
        return p
    fallen = accepted.clamp(max=drafted.shape[1] - 1)[:, None]
    if draft is None:
        q = torch.zeros_like(p).scatter(1, drafted.gather(1, fallen), 1.0)
    else:
        q = draft.gather(1, fallen[..., None].expand(-1, 1, draft.shape[2]))[:, 0]
    residual = (p - q).clamp(min=0)
    # p and q equal but for rounding leave no residual, and then the draft could not fall but by rounding: take p
    fell = (accepted < counts) & (residual.sum(dim=1) > 0)
    return torch.where(fell[:, None], residual, p)
