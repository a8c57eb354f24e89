"""Takes prompts into a network's slots: on CUDA in captured passes of a few sizes, anywhere else as they come.

A captured pass has fixed shapes and addresses, and there are not to be many. So it runs in a slot of its own, on as
many tokens as the next size has; what the request has cached is copied there before, and what is new is copied back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lapsbench.decoding.network import PREFILL_CHUNK, SPAN_BLOCK, Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from lapsbench.decoding.graphs import Runner
    from lapsbench.decoding.network import Network

SIZES = (16, 32, 64, 128, 192, 256, 384, PREFILL_CHUNK)
"""Tokens of a captured pass."""


def take_in(network: Network, chunk: Chunk, runner: Runner) -> Tensor:
    """Write a chunk into its slot; return the logits [V] of its last token."""
    if not runner.captures:
        return network.prefill(chunk.row, chunk.tokens, chunk.cached)
    logits = None
    for part in _passes(chunk):
        logits = _take_in(network, part, runner)
    if logits is None:
        raise ValueError("a chunk has at least one token")
    return logits.clone()  # the graph's own is gone when it runs again


def warm_up(network: Network, runner: Runner) -> None:
    """Capture every pass there may be."""
    for size in SIZES if runner.captures else ():
        for span in _spans(network):
            if span >= size and size < 2 * network.room:
                _run(network, torch.zeros(1, size, dtype=torch.int64, device=network.device), 0, 1, span, runner)


def _take_in(network: Network, chunk: Chunk, runner: Runner) -> Tensor:
    new, cached = len(chunk.tokens), chunk.cached
    size = next(each for each in SIZES if each >= new)
    span = next(each for each in _spans(network) if each >= cached + size)
    slot, aside = network.cache.states[:, :, chunk.row], network.aside.states[:, :, 0]
    aside[:, :, :, :cached] = slot[:, :, :, :cached]
    padded = chunk.tokens.new_zeros(1, size)
    padded[0, :new] = chunk.tokens
    logits = _run(network, padded, cached, new, span, runner)
    slot[:, :, :, cached : cached + new] = aside[:, :, :, cached : cached + new]
    return logits


def _run(network: Network, padded: Tensor, cached: int, new: int, span: int, runner: Runner) -> Tensor:
    def step(tokens: Tensor, lengths: Tensor, last: Tensor) -> Tensor:
        return network.forward_aside(tokens, lengths, last, span=span)

    lengths, last = (torch.full((1,), each, device=network.device) for each in (cached, new - 1))
    return runner.call("prefill", (id(network), padded.shape[1], span), step, padded, lengths, last)


def _passes(chunk: Chunk) -> Iterator[Chunk]:
    for start in range(0, len(chunk.tokens), PREFILL_CHUNK):
        yield Chunk(chunk.row, chunk.tokens[start : start + PREFILL_CHUNK], chunk.cached + start)


def _spans(network: Network) -> Iterator[int]:
    """Yield how far attention reads, each time twice as far, and at last all there is."""
    span, most = SPAN_BLOCK, network.aside.states.shape[4]
    while span < most:
        yield span
        span *= 2
    yield most
