"""Acceptance that a user names instead of the profile's: generated, a mean alone, or a file of recordings.

`synthetic:mean=2.5,spread=1.1,memory=0.1,drift=0.05` is generated on the prompts of the profile's own bank, or, where
it has none, on made-up ones. A mean acceptance length alone is the same with no spread, memory or drift: all requests
alike.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from lapsbench.acceptance.prompts import Prompts
from lapsbench.acceptance.readers import read_acceptance
from lapsbench.acceptance.served import is_served, read_served
from lapsbench.acceptance.synthetic import Synthetic, generate
from lapsbench.errors import UsageError

if TYPE_CHECKING:
    from lapsbench.core import Bank

SYNTHETIC = "synthetic"
SEED = 0
"""The bank is one, whatever the seed of a replay: that draws which recording each request gets."""
_EXAMPLE = "synthetic:mean=2.5,spread=1.1,memory=0.1,drift=0.05"
_WHOLE = ("draft_tokens", "draft_tokens_max")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A bank, what it is, and remarks on it, for people."""

    bank: Bank
    label: str
    notes: tuple[str, ...] = ()


def chosen(spec: str, own: Bank | None, draft_tokens: int) -> Chosen:
    """Return the bank that `--acceptance` names.

    Args:
        spec: `synthetic`, `synthetic:KEY=VALUE,...`, the path of a file that `read_acceptance` reads, or the folder
            of a run that was served.
        own: the profile's bank, whose prompts a generated one is recorded on.
        draft_tokens: drafts a round that a synthetic mean is told for, unless it says `draft_tokens=K` itself.

    Raises:
        UsageError: a synthetic bank that means nothing or cannot be had.
        LapsbenchError: the file cannot be read.
    """
    if is_served(spec):
        return Chosen(read_served(spec), f"acceptance as served in {spec}")
    if spec.partition(":")[0] != SYNTHETIC:
        reading = read_acceptance(spec)
        return Chosen(reading.bank, f"acceptance read from {spec}", (reading.reconciliation, *reading.notes))
    return Chosen(_generated(_parsed(spec, draft_tokens), own), f"acceptance generated ({spec})")


def of_length(mean: float, own: Bank | None, draft_tokens: int) -> Chosen:
    """Return a bank of this mean acceptance length at `draft_tokens` drafts, all requests alike.

    Raises:
        UsageError: no draft length gives such a mean.
    """
    wanted = Synthetic(mean, 0.0, 0.0, 0.0, draft_tokens, max(draft_tokens, Synthetic().draft_tokens_max))
    label = f"acceptance length {mean:g} at k = {draft_tokens} assumed, all requests alike"
    return Chosen(_generated(wanted, own), label)


def _generated(wanted: Synthetic, own: Bank | None) -> Bank:
    prompts = Prompts.like_chat(SEED) if own is None else Prompts.of(own)
    return generate(
        wanted,
        SEED,
        prompt_id=prompts.prompt_id,
        category=prompts.category,
        prompt_tokens=prompts.prompt_tokens,
        output_tokens=prompts.output_tokens,
    )


def _parsed(spec: str, draft_tokens: int) -> Synthetic:
    keys = [field.name for field in fields(Synthetic)]
    values: dict[str, float] = {}
    for part in filter(None, spec.partition(":")[2].split(",")):
        key, _, text = (piece.strip() for piece in part.partition("="))
        if key not in keys or key in values:
            what = f"{key} is there twice" if key in values else f"unknown key {key!r}"
            raise UsageError(what, where=f"acceptance {spec!r}", hint=f"{_EXAMPLE}; the keys are {', '.join(keys)}")
        values[key] = _number(text, spec, whole=key in _WHOLE)
    told = int(values.pop("draft_tokens", draft_tokens))
    most = int(values.pop("draft_tokens_max", max(told, Synthetic().draft_tokens_max)))
    return Synthetic(**values, draft_tokens=told, draft_tokens_max=most)


def _number(text: str, spec: str, *, whole: bool) -> float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        kind = "whole number" if whole else "number"
        raise UsageError(f"{text!r} is not a {kind}", where=f"acceptance {spec!r}", hint=_EXAMPLE) from None
