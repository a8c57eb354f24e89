"""Generate for many prompts: rows come and go, the rounds go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lapsbench.decoding.decoder import Sampling
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.decoding.batch import Batch, Emission
    from lapsbench.decoding.decoder import Decoder


@dataclass(frozen=True, slots=True)
class Output:
    """What one prompt led to.

    Attributes:
        tokens: what was emitted, the first by prefill; the end-of-sequence token included.
        drafted: per round, drafts that counted: padding and drafts past `max_new_tokens` do not.
        accepted: per round, tokens emitted less one. An end-of-sequence token among the drafts cuts the round.
    """

    tokens: list[int] = field(default_factory=list)
    drafted: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Generation:
    """One output per prompt, in the order of the prompts."""

    outputs: list[Output]

    @property
    def tokens(self) -> list[list[int]]:
        """The emitted tokens of each prompt."""
        return [output.tokens for output in self.outputs]


@dataclass(slots=True)
class _Seat:
    """A row that is taken: whose output it writes, and how many tokens its slot holds."""

    output: Output
    cached_tokens: int


def generate(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    eos: int | None = None,
) -> Generation:
    """Return what the target says to each prompt; more prompts than slots take turns.

    Prefill emits the first token; rounds follow until `eos` is emitted or `max_new_tokens` are.

    Raises:
        LapsbenchError: a prompt is empty, or too long for a slot.
    """
    _check(decoder, prompts, max_new_tokens)
    sampling = Sampling.seeded(temperature, seed, decoder.target.device)
    outputs = [Output() for _ in prompts]
    waiting = iter(zip(prompts, outputs, strict=True))
    rows = min(decoder.target.slots, len(prompts))
    batch = decoder.batch(rows) if rows else None
    seats: dict[int, _Seat] = {}
    while batch is not None:
        for row in range(rows):
            if row not in seats:
                _seat_next(decoder, batch, row, waiting, seats, max_new_tokens, sampling, eos)
        if not seats:
            break
        batch = decoder.spanning(batch, max(seat.cached_tokens for seat in seats.values()))
        emission = decoder.round(batch, sampling)
        _collect(batch, seats, emission, max_new_tokens, eos)
    return Generation(outputs)


def _seat_next(
    decoder: Decoder,
    batch: Batch,
    row: int,
    waiting: Iterator[tuple[Sequence[int], Output]],
    seats: dict[int, _Seat],
    max_new_tokens: int,
    sampling: Sampling,
    eos: int | None,
) -> None:
    """Prefill waiting prompts into the row until one of them has rounds to do."""
    for prompt, output in waiting:
        first = decoder.admit(batch, row, prompt, max_new_tokens, sampling)
        output.tokens.append(first)
        if max_new_tokens > 1 and first != eos:
            seats[row] = _Seat(output, len(prompt))
            return
    _stop(batch, row)


def _collect(batch: Batch, seats: dict[int, _Seat], emission: Emission, max_new_tokens: int, eos: int | None) -> None:
    """Hand the emitted tokens to their outputs; free the rows that are done."""
    tokens, counts, drafted = emission.tokens.tolist(), emission.emitted.tolist(), emission.drafted.tolist()
    for row, seat in list(seats.items()):
        fresh = tokens[row][: counts[row]]
        ended = eos in fresh
        if ended:
            fresh = fresh[: fresh.index(eos) + 1]
        seat.output.tokens.extend(fresh)
        seat.output.drafted.append(drafted[row])
        seat.output.accepted.append(len(fresh) - 1)
        seat.cached_tokens += counts[row]
        if ended or len(seat.output.tokens) == max_new_tokens:
            del seats[row]
            _stop(batch, row)


def _stop(batch: Batch, row: int) -> None:
    """Let the row stand still, where it cannot reach beyond the span of rows that go on."""
    batch.lengths[row] = 1
    batch.limits[row] = 2


def _check(decoder: Decoder, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    if max_new_tokens < 1:
        raise LapsbenchError(f"{max_new_tokens} tokens are to be generated", hint="1 or more")
    room = decoder.target.room - max_new_tokens - decoder.draft_tokens - 1
    for number, prompt in enumerate(prompts):
        if not 1 <= len(prompt) <= room:
            raise LapsbenchError(
                f"the prompt has {len(prompt)} tokens; a slot of {decoder.target.room} has room for 1 to {room}",
                where=f"prompt {number}",
                hint="a shorter prompt, fewer new tokens or more room",
            )
