"""Attention over a slot cache: transformers' attention interface, without copies of the keys.

Transformers repeats keys and values for grouped-query attention whenever a masked query is longer than one token (its
`pack_gqa` serves one token only). That would charge verification of k + 1 tokens for memory traffic that no serving
engine has. Here the heads of a group stand side by side as further queries of their one key head: the same numbers,
and no copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from lapsbench.decoding.cache import PackedStates

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "lapsbench"
"""Under this name transformers models find `attend`."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor | PackedStates,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, None]:
    """Return scaled dot-product attention [B, q, heads, width] as transformers wants it, and no weights.

    Args:
        module: the attention layer, not needed.
        query: [B, heads, q, width]; head h belongs to key head h // (heads / key heads).
        key: [B, key heads, span, width]; of a packed pass keys and values of its windows, each of which attends alone.
        value: [B, key heads, span, width]; not read of a packed pass.
        attention_mask: bool [B, 1, q, span], true where a query may look; None for causal over exactly these tokens.
        scaling: of the scores; None for 1 / sqrt(width).
        dropout: zero outside training.
    """
    if isinstance(key, PackedStates):
        return _attend_packed(module, query, key, scaling, dropout), None
    batch, heads, queries, width = query.shape
    groups = heads // key.shape[1]
    if attention_mask is None:
        mixed = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=queries > 1, scale=scaling, enable_gqa=groups > 1
        )
        return mixed.transpose(1, 2).contiguous(), None
    folded = query.reshape(batch, key.shape[1], groups * queries, width)
    mask = attention_mask if groups == 1 else attention_mask.repeat(1, 1, groups, 1)
    mixed = functional.scaled_dot_product_attention(folded, key, value, mask, dropout_p=dropout, scale=scaling)
    return mixed.reshape(batch, heads, queries, value.shape[-1]).transpose(1, 2).contiguous(), None


def _attend_packed(
    module: nn.Module, query: Tensor, key: PackedStates, scaling: float | None, dropout: float
) -> Tensor:
    """Return [1, all tokens, heads, width]."""
    mixed, begin = [], 0
    for window, mask, (keys, values) in zip(key.packed.windows, key.packed.masks, key.pairs, strict=True):
        rows, queries = window.places.shape
        part = query[0, :, begin : begin + rows * queries].reshape(len(query[0]), rows, queries, -1).transpose(0, 1)
        mixed.append(attend(module, part, keys, values, mask, scaling, dropout)[0].flatten(0, 1))
        begin += rows * queries
    return torch.cat(mixed)[None]


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
