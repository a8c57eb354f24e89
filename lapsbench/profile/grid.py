"""Which points of the cost grid are measured, and in which order. Knows sizes and memory; no torch, no clock.

The grid grows by slabs: first the corners, then each axis is halved again and again, and a slab is all that one more
value of one axis adds. Whatever slab is the last, the grid is whole: no line along an axis ends at one point while
others go on, which the price rule would take for a constant.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PREFILLS = (1, 16, 64, 256, 1024, 4096, 16384)
"""Prompt tokens, up to the largest context; one token, because a step's first pass is paid once."""
PREFILL = ("prefill", "draft_prefill")
ALIGNED = 16
"""Rooms are whole multiples, so that rows of masks stay aligned."""
USABLE = 0.9
"""Share of the device's memory that may be planned with."""
CHUNKS = (16, 128, 512)
"""Prompt tokens beside rounds; more of them go through the weights in further passes."""
OVERHEAD_DRAFTS = 4
"""Drafts at which the overhead of a step is measured, if k goes so far."""


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One row of the cost table, in the words of docs/profiles.md; the last two sizes are those of `mixed` alone."""

    component: str
    batch_size: int
    query_tokens: int
    context_tokens: int
    verify_tokens: int = 0
    chunk_context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Sizes:
    """What memory and time depend on.

    Attributes:
        weights_bytes, draft_weights_bytes: of both models; shared weights once, in the first.
        draft_pass_bytes: weights that one pass of the draft reads, shared ones included.
        kv_bytes, draft_kv_bytes: per cached token.
        vocabulary: tokens; item_bytes: of one number.
        positions: tokens a sequence may have, by either model.
        memory_bytes: of the device.
    """

    weights_bytes: int
    draft_weights_bytes: int
    draft_pass_bytes: int
    kv_bytes: int
    draft_kv_bytes: int
    vocabulary: int
    item_bytes: int
    positions: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Axes:
    """Values along each axis: batches, contexts, and drafts a round, each ascending."""

    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    drafts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """What to measure.

    Attributes:
        axes: all values.
        draft_prefills: whether a model drafts, and so has prompts to read.
        most: largest context that fits memory, for each batch; 0 where none does.
        positions: tokens a sequence may have.
        longest_prefill: largest prompt and cached tokens together.
        mixed: whether rounds and chunks in one pass are measured.
    """

    axes: Axes
    draft_prefills: bool
    most: tuple[int, ...]
    positions: int
    longest_prefill: int
    mixed: bool = False

    @property
    def draft_tokens(self) -> int:
        """The largest k."""
        return self.axes.drafts[-1]

    def room(self, point: Point) -> int:
        """Return the tokens a slot must have for this point."""
        if point.component in PREFILL:
            return min(_aligned(point.query_tokens + point.context_tokens), self.positions)
        if point.component == "mixed":
            chunk = _aligned(point.query_tokens + point.chunk_context_tokens)
            return min(max(self.span(point.context_tokens), chunk), self.positions)
        return self.span(point.context_tokens)

    def span(self, context: int) -> int:
        """Return the tokens a slot must have for rounds at this context."""
        return min(_aligned(context + self.draft_tokens + 2), self.positions)

    def longest(self, batch: int) -> int:
        """Return the largest context this batch has memory for."""
        return self.most[self.axes.batches.index(batch)]

    def fits(self, batch: int, context: int) -> bool:
        """Whether this batch has memory for this context."""
        return context <= self.longest(batch)

    def without(self, point: Point) -> Grid:
        """Return the grid without this point, nor more of anything at once."""
        batch, context = point.batch_size, point.context_tokens
        if point.component in PREFILL:
            return replace(self, longest_prefill=point.query_tokens + context - 1)
        if point.component == "mixed":
            batch, context = self._beside(batch), max(context, point.query_tokens + point.chunk_context_tokens)
        below = max((each for each in self.axes.contexts if each < context), default=0)
        sizes = zip(self.axes.batches, self.most, strict=True)
        return replace(self, most=tuple(min(most, below) if each >= batch else most for each, most in sizes))

    @property
    def batches(self) -> tuple[int, ...]:
        """The batches that are measured: those with memory for two contexts, or for the only one there is."""
        needed = self.axes.contexts[min(1, len(self.axes.contexts) - 1)]
        return tuple(each for each, most in zip(self.axes.batches, self.most, strict=True) if most >= needed)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What does not fit memory, for people."""
        kept, lines = self.batches, []
        if gone := [each for each in self.axes.batches if each not in kept]:
            lines.append(f"batch {_listed(gone)} at every context")
        short = {batch: [each for each in self.axes.contexts if not self.fits(batch, each)] for batch in kept}
        lines += [f"batch {batch} at context {_listed(missing)}" for batch, missing in short.items() if missing]
        if self.longest_prefill < min(self.positions, 2 * self.axes.contexts[-1]):
            lines.append(f"prefill of more than {self.longest_prefill:,} tokens, cached ones included")
        return tuple(lines)

    def points(self, axes: Axes | None = None) -> set[Point]:
        """Return all points, or those of fewer values."""
        axes = axes or self.axes
        batches = [each for each in axes.batches if each in self.batches]
        found = set(self._prefills(axes))
        for batch in batches:
            found.add(Point("overhead", batch, min(OVERHEAD_DRAFTS, self.draft_tokens), self.axes.contexts[0]))
            for context in self._contexts(batch, axes):
                found |= {Point("draft", batch, k, context) for k in axes.drafts}
                found |= {Point("verify", batch, k + 1, context) for k in {0, *axes.drafts}}
        for context in self._contexts(self.axes.batches[0], axes):
            found |= {Point("swap_out", 1, 1, context), Point("swap_in", 1, 1, context)}
        return found | set(self._mixed(axes))

    @property
    def rounds(self) -> tuple[int, ...]:
        """Rounds beside which chunks are measured: one place of the largest batch is the chunk's."""
        batches = self.batches
        chosen = {batches[0], batches[len(batches) // 2], batches[-1] - 1} if self.mixed else set[int]()
        beside = {each: self._beside(each) for each in sorted(chosen) if 0 < each < batches[-1]}
        return tuple(each for each, batch in beside.items() if self.fits(batch, self.chunks[0]))

    @property
    def chunks(self) -> tuple[int, ...]:
        """Their tokens."""
        longest = self.axes.contexts[-1]
        return tuple(each for each in CHUNKS if each <= longest) or (longest,)

    @property
    def chunk_contexts(self) -> tuple[int, ...]:
        """Their cached tokens."""
        return 0, self.axes.contexts[(len(self.axes.contexts) - 1) // 2]

    def slabs(self) -> list[list[Point]]:
        """Return all points in the order that serves an unknown budget best."""
        known, slabs = set[Point](), []
        for axes in _growing(self.axes):
            points = self.points(axes)
            if fresh := points - known:
                slabs.append(self.ordered(fresh))
                known |= fresh
        return slabs

    def ordered(self, points: Iterable[Point]) -> list[Point]:
        """Return points so that a cache is made once for many of them, the largest first: want of memory shows early.

        The very first is a plain step, against which drift is told.
        """
        return sorted(points, key=lambda at: (-self.room(at), at.component != "verify", at.batch_size, at))

    def _contexts(self, batch: int, axes: Axes) -> set[int]:
        """Return the contexts of this batch; the largest that fits stands in for those that do not."""
        fitting = [each for each in self.axes.contexts if self.fits(batch, each)]
        return {each for each in axes.contexts if each in fitting} | {fitting[-1]}

    def _beside(self, rounds: int) -> int:
        """Return the batch whose memory rounds and a chunk need."""
        return min(each for each in self.axes.batches if each > rounds)

    def _mixed(self, axes: Axes) -> Iterable[Point]:
        """Yield rounds and a chunk in one pass; until the grid is whole, only the ends of every size."""
        rounds, tokens = self.rounds, self.chunks
        if axes != self.axes:
            rounds, tokens = ((*each[:1], *each[1:][-1:]) for each in (rounds, tokens))
        for size in rounds:
            fitting = [each for each in self.axes.contexts if self.fits(self._beside(size), each)]
            for context, new, cached in itertools.product({fitting[0], fitting[-1]}, tokens, self.chunk_contexts):
                if self.fits(self._beside(size), new + cached) and new + cached <= self.positions:
                    for verified in (1, self.draft_tokens + 1):
                        yield Point("mixed", size, new, context, verified, cached)

    def _prefills(self, axes: Axes) -> Iterable[Point]:
        longest = self.axes.contexts[-1]
        tokens = [each for each in PREFILLS if each < longest] + [longest]
        cached = [0, longest]
        if len(axes.contexts) == len(self.axes.contexts):  # a finer grid of prompts comes last
            cached.insert(1, self.axes.contexts[len(self.axes.contexts) // 2])
        else:
            tokens = sorted({1, tokens[len(tokens) // 2], longest})
        components = ("prefill", "draft_prefill") if self.draft_prefills else ("prefill",)
        for component in components:
            for new in tokens:
                fitting = [each for each in cached if new + each <= min(self.longest_prefill, self.positions)]
                yield from (Point(component, 1, new, each) for each in fitting)


def whole(axes: Axes, sizes: Sizes, *, draft_prefills: bool, sampled: bool, mixed: bool = False) -> Grid:
    """Return the grid of all that fits the device's memory.

    Raises:
        LapsbenchError: the models have fewer positions than the shortest context needs, or nothing fits.
    """
    drafts = axes.drafts[-1]
    contexts = tuple(each for each in axes.contexts if each + drafts + 2 <= sizes.positions)
    if not contexts:
        what = (
            f"the models have {sizes.positions} positions, context {axes.contexts[0]} with {drafts} drafts needs more"
        )
        raise LapsbenchError(what, where="--contexts", hint=f"--contexts {max(sizes.positions // 2, 1)}")
    axes = replace(axes, contexts=contexts)
    most = []
    for batch in axes.batches:
        fitting = [
            each for each in contexts if needed_bytes(sizes, batch, each, drafts, sampled=sampled) < _usable(sizes)
        ]
        most.append(fitting[-1] if fitting else 0)
    grid = Grid(axes, draft_prefills, tuple(most), sizes.positions, sizes.positions, mixed)
    if not grid.batches:
        least = needed_bytes(sizes, axes.batches[0], contexts[min(1, len(contexts) - 1)], drafts, sampled=sampled)
        weights = sizes.weights_bytes + sizes.draft_weights_bytes
        what = (
            f"not even batch {axes.batches[0]} fits: it takes {least / 1e9:.2f} GB, weights included "
            f"({weights / 1e9:.2f} GB); {_usable(sizes) / 1e9:.2f} GB may be used"
        )
        raise LapsbenchError(what, where="--batches", hint="smaller models, --dtype bfloat16, or shorter --contexts")
    return grid


def needed_bytes(sizes: Sizes, batch: int, context: int, draft_tokens: int, *, sampled: bool) -> int:
    """Return the memory that rounds of this batch at this context need: weights, caches, logits, activations."""
    room = _aligned(context + draft_tokens + 2)
    cache = batch * room * (sizes.kv_bytes + sizes.draft_kv_bytes)
    logits = batch * (draft_tokens + 1) * sizes.vocabulary * (sizes.item_bytes + (12 if sampled else 0))
    return sizes.weights_bytes + sizes.draft_weights_bytes + cache + 2 * logits


def parse_axis(text: str | None, flag: str, least: int = 1) -> tuple[int, ...] | None:
    """Return the numbers of "1,2,4", ascending, each once.

    Raises:
        UsageError: it is not such a list.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and least <= int(part) < 2**20 for part in parts):
        hint = f"{flag} {least},{least + 1},{least + 3}"
        raise UsageError(f"{text!r} is not a list of whole numbers from {least}", where=flag, hint=hint)
    return tuple(sorted({int(part) for part in parts}))


def halvings(values: Sequence[int]) -> list[int]:
    """Return the values: both ends, the middle, the middles between those, and so on."""
    order = [0, len(values) - 1] if len(values) > 1 else [0]
    gaps = [(0, len(values) - 1)]
    while gaps:
        low, high = gaps.pop(0)
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return [values[place] for place in order]


def _growing(axes: Axes) -> Iterable[Axes]:
    """Yield ever finer axes: the ends of all, then one more value of one of them at a time, in turn."""
    orders = [halvings(axes.batches), halvings(axes.drafts), halvings(axes.contexts)]
    taken = [min(2, len(order)) for order in orders]
    while True:
        parts = [tuple(sorted(order[:count])) for order, count in zip(orders, taken, strict=True)]
        batches, drafts, contexts = parts
        yield Axes(batches, contexts, drafts)
        behind = [place for place in range(3) if taken[place] < len(orders[place])]
        if not behind:
            return
        next_axis = min(behind, key=lambda place: taken[place] / len(orders[place]))
        taken[next_axis] += 1


def _usable(sizes: Sizes) -> float:
    return USABLE * sizes.memory_bytes


def _aligned(tokens: int) -> int:
    return -(-tokens // ALIGNED) * ALIGNED


def _listed(values: Sequence[int]) -> str:
    return ", ".join(f"{each:,}" for each in values)
