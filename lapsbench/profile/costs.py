"""Measure one point of the cost grid on random tokens: draft, verify, prefill, mixed, overhead, swaps.

Knows a target and a draft; does not know which points are wanted, nor what becomes of the times. Caches are made as
large as a point asks and kept while further points fit into them.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lapsbench.decoding.batch import Batch
from lapsbench.decoding.decoder import Decoder, Sampling
from lapsbench.decoding.drafts import ModelDraft
from lapsbench.decoding.graphs import Runner
from lapsbench.decoding.network import Chunk, Network
from lapsbench.decoding.prompts import take_in
from lapsbench.errors import LapsbenchError
from lapsbench.profile.clock import Clock, Limits, Timing
from lapsbench.profile.grid import OVERHEAD_DRAFTS, PREFILL, Grid, Point, Sizes
from lapsbench.profile.served import FAR, ServedStep
from lapsbench.streams import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from lapsbench.decoding.drafts import Draft

SWAPS = ("swap_out", "swap_in")


class OutOfMemoryError(LapsbenchError):
    """The device has no memory for a point."""


@dataclass(frozen=True, slots=True)
class Seats:
    """Target and draft with caches of so many slots and so much room."""

    target: Network
    draft: Draft
    slots: int
    room: int

    @property
    def networks(self) -> list[Network]:
        """The target, and the draft where it is a model."""
        return [self.target, self.draft.network] if isinstance(self.draft, ModelDraft) else [self.target]

    def resized(self, slots: int, room: int) -> Seats:
        """Return the same models with other caches."""
        target, draft = self.target, self.draft
        fresh = Network(target.model, slots=slots, room=room, vocabulary=target.vocabulary)
        if isinstance(draft, ModelDraft):
            old = draft.network
            draft = ModelDraft(Network(old.model, slots=slots, room=room, vocabulary=old.vocabulary), draft.label)
        return Seats(fresh, draft, slots, room)


class Bench:
    """Measures points.

    Args:
        seats: both models, with caches of any size.
        sampling: how tokens are chosen.
        seed: of the random tokens.
        eager: never capture CUDA graphs.
        limits: how long to repeat.

    Attributes:
        hides: some work of the host hides behind the device's: overhead and `mixed` are then what is left of a whole
            step, as served, once the other parts are taken off.
    """

    def __init__(
        self, seats: Seats, sampling: Sampling, *, seed: int, eager: bool = False, limits: Limits | None = None
    ) -> None:
        self.device = seats.target.device
        self.sampling = sampling
        self.eager = eager
        self.hides = self.device.type == "cuda"
        self.limits = limits or Limits(warm_ups=2 if self.device.type == "cuda" else 1)
        number = int(stream(seed, "profile/costs").integers(2**63))
        self.random = torch.Generator(self.device).manual_seed(number)
        self._seats = seats
        self._clock: Clock | None = None
        self._medians: dict[Point, float] = {}

    @torch.no_grad()
    def measure(self, point: Point, grid: Grid, *, eager: bool | None = None) -> Timing:
        """Return the time of a point; the component "round" is a whole round of the decoder.

        Raises:
            OutOfMemoryError: there is no memory for it; nothing of the attempt is kept.
        """
        try:
            timing = self._measure(point, grid, eager=self.eager if eager is None else eager)
        except RuntimeError as error:
            if not _wants_memory(error):
                raise
        else:
            if eager is None:
                self._medians[point] = timing.median_s
            return timing
        self.release()
        raise OutOfMemoryError(f"{point} does not fit the device's memory")

    def release(self) -> None:
        """Give the caches' memory back; the next point makes them anew."""
        self._clock = None
        self._seats = self._seats.resized(1, 1)
        gc.collect()
        self._empty_cache()

    def _empty_cache(self) -> None:
        """Give unused memory back: while a graph is captured, torch will not do so by itself, but fail."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _measure(self, point: Point, grid: Grid, *, eager: bool) -> Timing:
        if point.component == "mixed":
            seats = self._seat(point.batch_size + 1, grid.room(point), grid)
            return self._within(point, grid, seats) if self.hides else self._mixed(point, grid, seats)
        seats = self._seat(point.batch_size, grid.room(point), grid)
        if point.component in PREFILL:
            return self._prefill(point, seats, Runner(self.device, eager=eager))
        if point.component in SWAPS:
            return self._swap(point, seats)
        if self.hides and point.component in ("overhead", "round"):
            return self._within(point, grid, seats)
        k = point.query_tokens - 1 if point.component == "verify" else point.query_tokens
        decoder = Decoder(seats.target, seats.draft, k, eager=eager)
        batch = self._batch(point, grid, seats)
        steps = {"draft": self._draft, "verify": self._verify, "overhead": self._overhead, "round": self._round}
        try:
            return steps[point.component](decoder, batch)
        finally:
            decoder.runner.release()
            self._empty_cache()

    def _draft(self, decoder: Decoder, batch: Batch) -> Timing:
        return self._time(lambda: decoder.draft_round(batch, self.sampling), lambda: self._shuffle(batch.history))

    def _verify(self, decoder: Decoder, batch: Batch) -> Timing:
        tokens = torch.empty(len(batch), decoder.draft_tokens + 1, dtype=torch.int64, device=self.device)
        return self._time(lambda: decoder.verify_step(batch, tokens), lambda: self._shuffle(tokens))

    def _overhead(self, decoder: Decoder, batch: Batch) -> Timing:
        begin = batch.lengths.clone()
        proposal = decoder.draft_round(batch, self.sampling)
        logits = decoder.verify_step(batch, torch.cat([batch.last, proposal.tokens], dim=1))
        return self._time(
            lambda: decoder.bookkeeping(batch, proposal, logits, self.sampling), lambda: batch.lengths.copy_(begin)
        )

    def _within(self, point: Point, grid: Grid, seats: Seats) -> Timing:
        """Time a whole step as it is served, less what the parts take that have a time of their own."""
        mixed = point.component == "mixed"
        k = point.verify_tokens - 1 if mixed else point.query_tokens
        parts_s = 0.0 if point.component == "round" else self._parts_s(point, k, grid)
        said = torch.empty(grid.room(point), dtype=torch.int64, device=self.device)
        self._shuffle(said)
        step = ServedStep(
            *(seats.target, seats.draft if k else None, k),
            rounds=point.batch_size,
            context=point.context_tokens,
            chunk=(point.query_tokens, point.chunk_context_tokens) if mixed else None,
            said=said,
            eager=self.eager,
        )
        try:
            return self._time(step.take, step.rewind, whole=True).less(parts_s)
        finally:
            step.executor.decoder.runner.release()
            self._empty_cache()

    def _parts_s(self, point: Point, k: int, grid: Grid) -> float:
        """Return what a replay prices beside this part of a step."""
        batch, context = point.batch_size, point.context_tokens
        parts_s = self._median_s(Point("draft", batch, k, context), grid) if k else 0.0
        if point.component == "overhead":
            return parts_s + self._median_s(Point("verify", batch, k + 1, context), grid)
        drafts = min(OVERHEAD_DRAFTS, grid.draft_tokens)
        parts_s += self._median_s(Point("overhead", batch, drafts, grid.axes.contexts[0]), grid)
        if k and grid.draft_prefills:  # a chunk that shares its pass is priced at what it adds
            new = Point("draft_prefill", 1, point.query_tokens, point.chunk_context_tokens)
            one = Point("draft_prefill", 1, 1, 0)
            parts_s += max(0.0, self._median_s(new, grid) - self._median_s(one, grid))
        return parts_s

    def _median_s(self, point: Point, grid: Grid) -> float:
        """Return what a part takes; measured once."""
        if point not in self._medians:
            self._medians[point] = self._measure(point, grid, eager=self.eager).median_s
        return self._medians[point]

    def _round(self, decoder: Decoder, batch: Batch) -> Timing:
        begin = batch.lengths.clone()

        def prepare() -> None:
            batch.lengths.copy_(begin)
            self._shuffle(batch.history)

        return self._time(lambda: decoder.round(batch, self.sampling), prepare)

    def _prefill(self, point: Point, seats: Seats, runner: Runner) -> Timing:
        tokens = torch.empty(point.query_tokens, dtype=torch.int64, device=self.device)
        reader = seats.networks[point.component == "draft_prefill"]
        chunk = Chunk(0, tokens, point.context_tokens)
        try:
            return self._time(lambda: take_in(reader, chunk, runner), lambda: self._shuffle(tokens))
        finally:
            runner.release()
            self._empty_cache()

    def _mixed(self, point: Point, grid: Grid, seats: Seats) -> Timing:
        """Verify rounds and take in a chunk in one pass, as where they are served."""
        batch = self._batch(point, grid, seats)
        tokens = torch.empty(len(batch), point.verify_tokens, dtype=torch.int64, device=self.device)
        new = torch.empty(point.query_tokens, dtype=torch.int64, device=self.device)
        chunk = Chunk(len(batch), new, point.chunk_context_tokens)

        def prepare() -> None:
            self._shuffle(tokens)
            self._shuffle(new)

        return self._time(lambda: seats.target.mixed(tokens, batch.lengths, [chunk], span=batch.span), prepare)

    def _swap(self, point: Point, seats: Seats) -> Timing:
        """Copy one sequence's keys and values, of both models, to pinned memory or back."""
        layers = [layer for network in seats.networks for layer in network.cache.states[:, :, 0]]
        inside = [kept[:, : point.context_tokens] for layer in layers for kept in layer]
        pinned = self.device.type == "cuda"
        outside = [torch.empty(part.shape, dtype=part.dtype, pin_memory=pinned) for part in inside]
        pairs = list(
            zip(outside, inside, strict=True) if point.component == "swap_out" else zip(inside, outside, strict=True)
        )

        def copy() -> None:
            for target, source in pairs:
                target.copy_(source, non_blocking=pinned)

        return self._time(copy, lambda: None)

    def _time(self, call: Callable[[], object], prepare: Callable[[], object], *, whole: bool = False) -> Timing:
        if self._clock is None:
            held = sum(
                each.weights_bytes + each.slots * each.room * each.kv_bytes_per_token for each in self._seats.networks
            )
            self._clock = Clock(self.device, held, self.limits)
        return self._clock.time(call, prepare, whole=whole)

    def _shuffle(self, tokens: Tensor) -> None:
        tokens.random_(0, self._seats.target.vocabulary, generator=self.random)

    def _batch(self, point: Point, grid: Grid, seats: Seats) -> Batch:
        """Return rows that have the point's context in the cache, random tokens before them, and no limit."""
        span = grid.span(point.context_tokens)
        history = torch.empty(point.batch_size, span, dtype=torch.int64, device=self.device)
        history.random_(0, seats.target.vocabulary, generator=self.random)
        lengths = torch.full((point.batch_size,), point.context_tokens, device=self.device)
        return Batch(history, lengths, torch.full_like(lengths, FAR), span)

    def _seat(self, batch: int, room: int, grid: Grid) -> Seats:
        """Return caches that have this batch and room; if new, with all slots the grid asks for at this room."""
        if self._seats.slots < batch or self._seats.room < room:
            others = [each for each in grid.batches if grid.span(grid.longest(each)) >= room]
            self.release()
            self._seats = self._seats.resized(max([batch, *others]), room)
            for network in self._seats.networks:
                network.cache.fill_random(self.random)
        return self._seats


def sizes_of(seats: Seats, memory_bytes: int) -> Sizes:
    """Return what memory and time of these models depend on."""
    target, drafts = seats.target, seats.networks[1:]
    mine = {id(parameter) for parameter in target.model.parameters()}
    extra = [each for draft in drafts for each in draft.model.parameters() if id(each) not in mine]
    return Sizes(
        weights_bytes=target.weights_bytes,
        draft_weights_bytes=sum(each.numel() * each.element_size() for each in extra),
        draft_pass_bytes=sum(draft.weights_bytes for draft in drafts),
        kv_bytes=target.kv_bytes_per_token,
        draft_kv_bytes=sum(draft.kv_bytes_per_token for draft in drafts),
        vocabulary=target.vocabulary,
        item_bytes=target.dtype.itemsize,
        positions=min(_positions(network) for network in seats.networks),
        memory_bytes=memory_bytes,
    )


def _positions(network: Network) -> int:
    config = network.model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or FAR)


def _wants_memory(error: BaseException | None) -> bool:
    """Whether it is about memory: torch's own error, an allocation of cuBLAS or of the host, or what came of one."""
    if error is None:
        return False
    texts = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
    if isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in texts):
        return True
    return _wants_memory(error.__cause__ or error.__context__)  # a capture that ends early fails once more
