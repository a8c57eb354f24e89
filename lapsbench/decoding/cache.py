"""A key-value cache of fixed shapes and ragged lengths.

One tensor of all layers, allocated once: addresses never move, so a CUDA graph may hold them, and a whole slot is
copied in one go. A row's length is not kept here: whoever calls says at which length each row goes on, so rolling a row
back is naming a smaller length. What lies past a row's length is stale, is masked, and is overwritten before it is ever
read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Window:
    """Where the forward pass under way writes and how far it reads; one for all layers of a cache.

    Attributes:
        rows: the slots taking part, one after the other.
        places: int64 [B, q], where in its slot each new token goes.
        span: tokens of a slot that attention reads, at least the largest place + 1.
    """

    rows: slice
    places: Tensor
    span: int


@dataclass(slots=True)
class Packed:
    """Several windows of one pass, whose tokens come one after the other as one sequence of a batch of one.

    Attributes:
        windows: where each writes and how far it reads.
        masks: for each, bool [B, 1, q, span], true where a query may look; None for causal over exactly its tokens.
    """

    windows: list[Window]
    masks: list[Tensor | None]


@dataclass(slots=True)
class PackedStates:
    """Keys and values of the windows of a pass, each [B, heads, span, width], and what attention needs to know."""

    pairs: list[tuple[Tensor, Tensor]]
    packed: Packed


class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # transformers types no __init_subclass__
    """One layer's keys and values, each [slots, heads, room, width]."""

    keys: Tensor
    values: Tensor
    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nor __init__
        self.keys, self.values = keys, values
        self.is_initialized = True
        self.window: Window | Packed | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the room is there from the start."""

    def update(  # type: ignore[override]  # transformers hands on to attention whatever comes back
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor | PackedStates, Tensor]:
        """Write [B, heads, q, width] at the window's places; return the slots' [B, heads, span, width].

        Of a packed pass it is [1, heads, all tokens, width], and the first that comes back holds all windows' keys and
        values.
        """
        del args, kwargs
        window = self._open()
        if isinstance(window, Window):
            return _write(self.keys, key_states, window), _write(self.values, value_states, window)
        keys, values = (
            _write_all(store, states, window.windows)
            for store, states in ((self.keys, key_states), (self.values, value_states))
        )
        return PackedStates(list(zip(keys, values, strict=True)), window), value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the span and offset a mask would have."""
        window = self._open()
        return (window.span if isinstance(window, Window) else query_length), 0

    def get_seq_length(self) -> int:
        """Return 0: lengths are ragged, and positions are always given."""
        return 0

    def get_max_length(self) -> int:
        """Return the room."""
        return self.keys.shape[2]

    def get_max_cache_shape(self) -> int:
        """Return the same, under the name it had in older versions of transformers (5.9, for one)."""
        return self.get_max_length()

    def _open(self) -> Window | Packed:
        if self.window is None:
            raise RuntimeError("a slot cache is written through Network.forward")
        return self.window


class SlotCache(Cache):
    """A transformers cache of `slots` rows with `room` tokens each.

    Attributes:
        states: [layers, 2, slots, heads, room, width], keys and values of all layers.
    """

    def __init__(self, layers: int, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.states = torch.zeros((layers, 2, *shape), dtype=dtype, device=device)
        self.slot_layers = [SlotLayer(keys, values) for keys, values in self.states]
        super().__init__(layers=list(self.slot_layers))

    def open(self, window: Window | Packed) -> None:
        """Say where the next forward pass writes and reads."""
        for layer in self.slot_layers:
            layer.window = window

    def fill_random(self, generator: torch.Generator) -> None:
        """Fill every slot with normal noise: zeros would let a GPU run cooler and faster than real numbers do."""
        self.states.normal_(generator=generator)


def _write(store: Tensor, states: Tensor, window: Window) -> Tensor:
    rows, places = store[window.rows], window.places[:, None, :, None].expand_as(states)
    _bits(rows).scatter_(2, places, _bits(states))
    return rows[:, :, : window.span]


def _bits(values: Tensor) -> Tensor:
    """Return them as they lie: what scatters bfloat16 on a CPU copies all of it, there and back (0.15 ms for 0.006)."""
    return values.view(torch.int16) if values.element_size() == torch.int16.itemsize else values


def _write_all(store: Tensor, states: Tensor, windows: list[Window]) -> list[Tensor]:
    kept, begin = [], 0
    for window in windows:
        rows, queries = window.places.shape
        part = states[0, :, begin : begin + rows * queries].reshape(len(states[0]), rows, queries, -1).transpose(0, 1)
        kept.append(_write(store, part, window))
        begin += rows * queries
    return kept
