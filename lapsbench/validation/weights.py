"""Work that is like a step's: tokens times a model's weights, in parts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

PARTS = 27
"""At most: the smaller, the closer they lie, and the better they say how dear the machine is at a moment."""
LEAST = 1 << 20
"""Weights in a part at least: less is over too soon to be timed."""


def parts_of(model: nn.Module, tokens: int) -> list[Callable[[], None]]:
    """Return parts of what a pass over so many tokens does most of; attention is left out, and what is looked up.

    Together they are all weights that are multiplied with, once.
    """
    weights: list[Tensor] = [module.weight.detach() for module in model.modules() if _multiplies(module)]  # type: ignore[operator]
    inputs = {weight.shape[1]: weight.new_ones(tokens, weight.shape[1]) for weight in weights}
    total, done = sum(weight.numel() for weight in weights), 0
    size = -(-total // max(min(total // LEAST, PARTS), 1))
    pieces: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(-(-total // size))]
    for weight in weights:
        width, left = weight.shape[1], weight
        while len(left):
            part = done // size
            rows = -(-(size * (part + 1) - done) // width)  # to the end of the part
            pieces[part].append((inputs[width], left[:rows]))
            done += pieces[part][-1][1].numel()
            left = left[rows:]
    return [partial(_multiply, each) for each in pieces]


def _multiplies(module: nn.Module) -> bool:
    """Say whether a module has weights to multiply with: transformers has others than `nn.Linear` that do."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.ndim == 2 and not isinstance(module, nn.Embedding)


@torch.no_grad()
def _multiply(pieces: list[tuple[Tensor, Tensor]]) -> None:
    for values, weight in pieces:
        found = nn.functional.linear(values, weight)
    float(found[0, 0])  # the device is waited for
