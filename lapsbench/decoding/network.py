"""A transformers causal language model on a slot cache: tokens and lengths in, logits out.

Does not know what is drafted or accepted; any model whose layers all attend to everything before them will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from lapsbench.decoding.attention import NAME
from lapsbench.decoding.cache import Packed, SlotCache, Window
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

SPAN_BLOCK = 128
"""Attention reads the cache in whole blocks: few shapes to capture, and rows of masks stay aligned."""
PREFILL_CHUNK = 512
"""Prompt tokens per forward pass."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part of a prompt: int64 [n] tokens for slot `row`, after its first `cached` ones."""

    row: int
    tokens: Tensor
    cached: int


class Network:
    """A model, and room for `slots` sequences of up to `room` tokens.

    Row r of a batch is slot r (or `first` + r): slots outside the batch are not touched.

    Args:
        model: a transformers causal LM; its attention is switched to `attention.attend`.
        slots: sequences that have a place in the cache.
        room: tokens a sequence may have, those being verified included.
        vocabulary: tokens that count, where the embedding is padded beyond the tokenizer; None for all.

    Raises:
        LapsbenchError: the model has fewer positions than `room`, or attends over a sliding window smaller than it.
    """

    def __init__(self, model: PreTrainedModel, *, slots: int, room: int, vocabulary: int | None = None) -> None:
        config = model.config.get_text_config()
        _check(config, room)
        model.set_attn_implementation(NAME)
        self.model = model.eval()  # type: ignore[no-untyped-call]  # transformers types it not
        self.slots = slots
        self.room = room
        self.vocabulary = vocabulary or int(config.vocab_size)
        self.dtype: torch.dtype = model.dtype
        self.device: torch.device = model.device
        heads, width = _kv_shape(config)
        layers = int(config.num_hidden_layers)
        self.kv_bytes_per_token = 2 * layers * heads * width * self.dtype.itemsize
        self.nothing = torch.ones(
            1, 1, 1, 1, dtype=torch.bool, device=self.device
        )  # a mask nobody reads: each has its own
        self.cache = SlotCache(layers, (slots, heads, room, width), self.dtype, self.device)

    @cached_property
    def aside(self) -> SlotCache:
        """A slot that is no sequence's, with room for a pass that is longer than what it is for."""
        layers, _, _, heads, room, width = self.cache.states.shape
        room = -(-(room + PREFILL_CHUNK) // SPAN_BLOCK) * SPAN_BLOCK
        return SlotCache(layers, (1, heads, room, width), self.dtype, self.device)

    @property
    def weights_bytes(self) -> int:
        """Bytes of all weights, tied ones once."""
        return sum(parameter.numel() * parameter.element_size() for parameter in self.model.parameters())

    @torch.no_grad()
    def forward(
        self, tokens: Tensor, lengths: Tensor, *, first: int = 0, span: int | None = None, keep: int = 0
    ) -> Tensor:
        """Write q new tokens per row at the row's own length; return their logits [B, q, V].

        Args:
            tokens: int64 [B, q].
            lengths: int64 [B], tokens of each row that are in the cache and hold; the rest is overwritten.
            first: slot of the first row.
            span: cached tokens attention reads, at least every length + q; None for all the room. Fixed shapes make
                the cost depend on it, not on the lengths.
            keep: logits of the last so many tokens only; 0 for all.
        """
        window = self._window(first, lengths, tokens.shape[1], self.room if span is None else span)
        return self._run(tokens, window, _mask(window), keep)

    @torch.no_grad()
    def forward_aside(self, tokens: Tensor, lengths: Tensor, last: Tensor, *, span: int) -> Tensor:
        """Do `forward` of one row in the slot aside; return the logits [V] of the token at `last`, int64 [1]."""
        window = self._window(0, lengths, tokens.shape[1], span)
        self.aside.open(window)
        return self._call(tokens, window.places, _mask(window), last, self.aside)[0, 0]

    @torch.no_grad()
    def mixed(
        self, tokens: Tensor, lengths: Tensor, chunks: Sequence[Chunk], *, span: int, keep: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Do `forward` of the first rows and `prefill` of other slots in one pass over the weights.

        Of a chunk longer than a pass may be, what comes before its last pass is written first.

        Args:
            tokens: as for `forward`, of no rows perhaps.
            lengths: the same.
            chunks: one or more, of slots that are not among the rows.
            span: as for `forward`.
            keep: the same.

        Returns:
            Logits [B, q, V] of the rows, and [chunks, V] of each chunk's last token.
        """
        rows, queries = tokens.shape
        if not rows and len(chunks) == 1:
            logits = self.prefill(chunks[0].row, chunks[0].tokens, chunks[0].cached)
            return logits.new_zeros(0, queries, self.vocabulary), logits[None]
        windows: list[Window] = []
        masks: list[Tensor | None] = []
        parts: list[Tensor] = []
        if rows:
            windows.append(self._window(0, lengths, queries, span))
            masks.append(_mask(windows[0]))
            parts.append(tokens.flatten())
        for chunk in chunks:
            part, cached = self._last_pass(chunk)
            reaches = cached + len(part)
            lengths_of = torch.full((1,), cached, device=self.device)
            windows.append(self._window(chunk.row, lengths_of, len(part), self.span(reaches) if cached else reaches))
            masks.append(_mask(windows[-1]) if cached else None)
            parts.append(part)
        kept = self._kept(rows, queries, keep, [len(part) for part in parts[bool(rows) :]])
        places = torch.cat([window.places.flatten() for window in windows])[None]
        self.cache.open(Packed(windows, masks))
        logits = self._call(torch.cat(parts)[None], places, self.nothing, kept)[0]
        firsts = len(logits) - len(chunks)
        return logits[:firsts].reshape(rows, keep or queries, self.vocabulary), logits[firsts:]

    @torch.no_grad()
    def prefill(self, row: int, tokens: Tensor, cached: int = 0, *, chunk: int = PREFILL_CHUNK) -> Tensor:
        """Write int64 [n] tokens into slot `row` after its first `cached` ones; return the last one's logits [V]."""
        logits = None
        for start in range(0, len(tokens), chunk):
            part = tokens[None, start : start + chunk]
            logits = self._prefill_chunk(row, part, cached + start)
        if logits is None:
            raise LapsbenchError("there is nothing to prefill", hint="a prompt of at least one token")
        return logits[0, -1]

    def span(self, tokens: int) -> int:
        """Return the span that covers so many tokens: whole blocks, within the room."""
        return min(-(-tokens // SPAN_BLOCK) * SPAN_BLOCK, self.room)

    def _prefill_chunk(self, row: int, part: Tensor, cached: int) -> Tensor:
        queries = part.shape[1]
        if cached:
            lengths = torch.full((1,), cached, device=self.device)
            return self.forward(part, lengths, first=row, span=self.span(cached + queries), keep=1)
        # nothing cached: plain causal attention, for which there are kernels that need no mask
        places = torch.arange(queries, device=self.device)[None]
        return self._run(part, Window(slice(row, row + 1), places, queries), None, 1)

    def _last_pass(self, chunk: Chunk) -> tuple[Tensor, int]:
        """Write all of a chunk but its last pass; return the tokens of that, and how many are cached before them."""
        before = (len(chunk.tokens) - 1) // PREFILL_CHUNK * PREFILL_CHUNK
        if before:
            self.prefill(chunk.row, chunk.tokens[:before], chunk.cached)
        return chunk.tokens[before:], chunk.cached + before

    def _kept(self, rows: int, queries: int, keep: int, sizes: Sequence[int]) -> Tensor:
        """Return which tokens of a packed pass want logits: the last `keep` of each row, the last one of each chunk."""
        of_rows = torch.arange(rows * queries, device=self.device).reshape(rows, queries)[:, -keep:]
        ends = torch.tensor(list(accumulate(sizes)), device=self.device) + rows * queries - 1
        return torch.cat([of_rows.flatten(), ends])

    def _window(self, first: int, lengths: Tensor, queries: int, span: int) -> Window:
        places = lengths[:, None] + torch.arange(queries, device=self.device)
        return Window(slice(first, first + len(lengths)), places, span)

    def _run(self, tokens: Tensor, window: Window, mask: Tensor | None, keep: int) -> Tensor:
        self.cache.open(window)
        return self._call(tokens, window.places, mask, keep)

    def _call(
        self, tokens: Tensor, places: Tensor, mask: Tensor | None, keep: int | Tensor, cache: SlotCache | None = None
    ) -> Tensor:
        output = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=places,
            past_key_values=self.cache if cache is None else cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        logits: Tensor = output.logits
        return logits[..., : self.vocabulary]


def _mask(window: Window) -> Tensor:
    """Return bool [B, 1, q, span]: every token sees those before it in its slot, and itself."""
    return torch.arange(window.span, device=window.places.device) <= window.places[:, None, :, None]


def _kv_shape(config: PreTrainedConfig) -> tuple[int, int]:
    """Return the key-value heads and their width."""
    heads = int(config.num_attention_heads)
    width = getattr(config, "head_dim", None) or int(config.hidden_size) // heads
    return int(getattr(config, "num_key_value_heads", None) or heads), int(width)


def _check(config: PreTrainedConfig, room: int) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and room > positions:
        raise LapsbenchError(f"the model has {positions} positions, {room} are asked for", hint="shorter contexts")
    windowed = any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if window is not None and window < room and (windowed or not hasattr(config, "layer_types")):
        raise LapsbenchError(
            f"the model attends over a sliding window of {window} tokens, {room} are asked for",
            hint=f"at most {window} tokens a sequence",
        )
