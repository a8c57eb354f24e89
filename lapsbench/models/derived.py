"""Drafts made from the target itself: fewer of its layers, or its weights in 4 bits.

No second model of the family is needed, and the vocabulary is the same by construction. Everything that is not changed
is shared with the target, embeddings and head included.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import PreTrainedModel

GROUP = 192
"""Input weights that share one scale and one offset. Not 32: GGUF files are 4-bit in groups of 32 already, and doing
that again changes nothing (measured on SmolLM2-135M: every token matched)."""
LEVELS = 15
"""Steps between the least and the greatest of a group: 4 bits."""


def keep_layers(model: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """Return a model of only these layers of the target, in this order, untrained.

    Raises:
        UsageError: the target has no such layer, or none is kept.
    """
    _check(model, layers)
    if not layers:
        raise UsageError("the draft would have no layers", where="--draft", hint="dropping fewer of them")
    smaller = _share(model)
    every = _layers(smaller)
    kept = nn.ModuleList(every[layer] for layer in layers)
    _replace(smaller, every, kept)
    for number, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                vars(module)["layer_idx"] = number  # its place in the cache
    config = smaller.config.get_text_config()
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[layer] for layer in layers]
    config.num_hidden_layers = len(layers)
    return smaller


def drop_layers(model: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """Return a model of the target's other layers.

    Raises:
        UsageError: the target has no such layer, or none is left.
    """
    _check(model, layers)
    return keep_layers(model, [layer for layer in range(len(_layers(model))) if layer not in layers])


def in_4_bits(model: PreTrainedModel) -> PreTrainedModel:
    """Return the target with the linear weights of its layers rounded to 4 bits and kept in its own dtype.

    It accepts like a 4-bit model and runs no faster than the target.

    Raises:
        LapsbenchError: its layers have no linear weights.
    """
    rounded = _share(model)
    linears = [module for module in _layers(rounded).modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise LapsbenchError("the target's layers hold no linear weights", where="--draft", hint="self:drop=1")
    for linear in linears:
        linear.weight = nn.Parameter(round_to_4_bits(linear.weight.detach()), requires_grad=False)
    return rounded


def round_to_4_bits(weight: Tensor, group: int = GROUP) -> Tensor:
    """Return weight [out, in] with each group of inputs rounded to 16 even steps from its least to its greatest."""
    parts = []
    for part in torch.split(weight.float(), group, dim=1):
        low = part.amin(dim=1, keepdim=True)
        step = (part.amax(dim=1, keepdim=True) - low) / LEVELS
        step = torch.where(step > 0, step, 1.0)
        parts.append(low + step * ((part - low) / step).round())
    return torch.cat(parts, dim=1).to(weight.dtype)


def _share(model: PreTrainedModel) -> PreTrainedModel:
    """Return the same modules anew, over the same parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _check(model: PreTrainedModel, layers: Sequence[int]) -> None:
    count = len(_layers(model))
    missing = [layer for layer in layers if not 0 <= layer < count]
    if missing:
        raise UsageError(f"the target has layers 0 to {count - 1}, not {missing[0]}", where="--draft")


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the decoder layers, wherever this architecture keeps them."""
    count = int(model.config.get_text_config().num_hidden_layers)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise LapsbenchError(
        f"no list of {count} layers is found in {type(model).__name__}", where="--draft", hint="ngram:4 as the draft"
    )


def _replace(model: PreTrainedModel, old: nn.ModuleList, new: nn.ModuleList) -> None:
    for module in model.modules():
        for name, child in module.named_children():
            if child is old:
                setattr(module, name, new)
                return
