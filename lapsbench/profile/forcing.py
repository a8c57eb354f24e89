"""Teacher forcing: run models over token sequences that are known already, many at a time, in chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from lapsbench.decoding.network import Network

PASS_TOKENS = 2048
"""Tokens of a forward pass, over all its rows: logits of 128k words for them are half a gigabyte in bf16."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of several sequences.

    Attributes:
        rows: which sequences, B of them.
        start: place of the first token in every sequence.
        following: int64 [B, c], the token after each; -1 where the sequence has ended.
        logits: [B, c, V] of each network.
    """

    rows: tuple[int, ...]
    start: int
    following: Tensor
    logits: tuple[Tensor, ...]


def teacher_forced(networks: Sequence[Network], sequences: Sequence[Sequence[int]]) -> Iterator[Chunk]:
    """Yield the logits of all networks over all sequences; slots of the networks are overwritten.

    The last token of a sequence has nothing after it and is not run.

    Raises:
        LapsbenchError: a sequence is longer than the room of a slot.
    """
    slots = min(network.slots for network in networks)
    room = min(network.room for network in networks)
    # sequences of like length together: little padding
    order = sorted(range(len(sequences)), key=lambda row: len(sequences[row]))
    for begin in range(0, len(order), slots):
        rows = tuple(order[begin : begin + slots])
        longest = len(sequences[rows[-1]])
        if longest > room:
            raise LapsbenchError(f"a sequence has {longest} tokens, a slot room for {room}", hint="more room")
        yield from _group(networks, [sequences[row] for row in rows], rows)


def _group(networks: Sequence[Network], sequences: Sequence[Sequence[int]], rows: tuple[int, ...]) -> Iterator[Chunk]:
    device = networks[0].device
    longest = len(sequences[-1])
    padded = [[*sequence, *[-1] * (longest - len(sequence))] for sequence in sequences]
    tokens = torch.tensor(padded, dtype=torch.int64, device=device)
    fed, following = tokens.clamp(min=0), tokens[:, 1:]
    chunk = max(1, PASS_TOKENS // len(rows))
    for start in range(0, longest - 1, chunk):
        part = fed[:, start : min(start + chunk, longest - 1)]
        lengths = torch.full((len(rows),), start, device=device)
        logits = tuple(network.forward(part, lengths, span=network.span(start + part.shape[1])) for network in networks)
        yield Chunk(rows, start, following[:, start : start + part.shape[1]], logits)
