"""Draft specifications as typed: `ngram:4`, `self:layers=0-3,29`, `self:drop=13-16`, `self:int4`, or a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lapsbench.decoding.drafts import ModelDraft, NgramDraft, check_vocabularies
from lapsbench.decoding.network import Network
from lapsbench.errors import UsageError
from lapsbench.models.derived import drop_layers, in_4_bits, keep_layers

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

KINDS = "ngram:4, self:layers=0-3,29, self:drop=13-16, self:int4 or a model"
MOST_NGRAM_TOKENS = 64
MOST_LAYERS = 10_000


@dataclass(frozen=True, slots=True)
class Ngram:
    """Prompt lookup of the last up to `tokens` tokens."""

    tokens: int


@dataclass(frozen=True, slots=True)
class Layers:
    """The target with only these layers, in the order typed."""

    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """The target without these layers."""

    dropped: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Int4:
    """The target rounded to 4 bits."""


@dataclass(frozen=True, slots=True)
class Named:
    """A model of its own: a hub id, a folder, a GGUF file, arch:NAME."""

    name: str


DraftSpec = Ngram | Layers | Drop | Int4 | Named


def parse_draft(text: str) -> DraftSpec:
    """Return what a draft specification asks for.

    Raises:
        UsageError: it is empty, or starts like one of ours and goes on otherwise.
    """
    kind, colon, rest = text.strip().partition(":")
    if not text.strip():
        raise _refuse("the draft is empty")
    if colon and kind == "ngram":
        return _ngram(text, rest)
    if colon and kind == "self":
        return _self(text, rest)
    return Named(text.strip())


def make_draft(
    spec: DraftSpec, target: Network, load: Callable[[str], PreTrainedModel], *, vocabulary: int | None = None
) -> ModelDraft | NgramDraft:
    """Return the draft, with as many slots and as much room as the target.

    Args:
        spec: what was asked for.
        target: what it drafts for; drafts made from it share its weights.
        load: loads a model by name, on the target's device.
        vocabulary: tokens of a named model that count, where its embedding is padded; None for all. (Qwen2.5-7B and
            -0.5B have one tokenizer and embeddings of 152,064 and 151,936.)

    Raises:
        UsageError: the target has no such layers.
        LapsbenchError: the draft's vocabulary is not the target's.
    """
    match spec:
        case Ngram(tokens):
            return NgramDraft(tokens)
        case Layers(kept):
            model, label = keep_layers(target.model, kept), f"self:layers={_ranges(kept)} (untrained)"
        case Drop(dropped):
            model, label = drop_layers(target.model, dropped), f"self:drop={_ranges(dropped)} (untrained)"
        case Int4():
            model, label = in_4_bits(target.model), "self:int4 (real acceptance, no real speed: rounded, not packed)"
        case Named(name):
            model, label = load(name), name
    counting = vocabulary if isinstance(spec, Named) else target.vocabulary
    network = Network(model, slots=target.slots, room=target.room, vocabulary=counting)
    check_vocabularies(target, network)
    return ModelDraft(network, label)


def _ngram(text: str, rest: str) -> Ngram:
    if not re.fullmatch(r"[0-9]{1,9}", rest) or not 1 <= int(rest) <= MOST_NGRAM_TOKENS:
        raise _refuse(f"{text!r} names no n-gram of 1 to {MOST_NGRAM_TOKENS} tokens")
    return Ngram(int(rest))


def _self(text: str, rest: str) -> DraftSpec:
    name, equals, numbers = rest.partition("=")
    if name == "int4" and not equals:
        return Int4()
    if name == "layers" and equals:
        return Layers(_numbers(text, numbers))
    if name == "drop" and equals:
        return Drop(_numbers(text, numbers))
    raise _refuse(f"{text!r} is no draft made from the target")


def _numbers(text: str, ranges: str) -> tuple[int, ...]:
    """Return the layers of "0-3,29"."""
    layers: list[int] = []
    for part in ranges.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part)
        if not found:
            raise _refuse(f"{text!r}: {part.strip()!r} is neither a layer nor a range of layers")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last >= MOST_LAYERS:
            raise _refuse(f"{text!r}: {part.strip()!r} is no range of layers")
        layers.extend(range(first, last + 1))
    if len(set(layers)) < len(layers):
        raise _refuse(f"{text!r} names a layer twice")
    return tuple(layers)


def _ranges(layers: tuple[int, ...]) -> str:
    """Return "0-3,29" for (0, 1, 2, 3, 29)."""
    parts: list[list[int]] = []
    for layer in layers:
        if parts and layer == parts[-1][-1] + 1:
            parts[-1].append(layer)
        else:
            parts.append([layer])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)


def _refuse(what: str) -> UsageError:
    return UsageError(what, where="--draft", hint=KINDS)
