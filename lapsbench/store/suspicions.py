"""What about a profile should make a user think twice: cells that fall where they should rise, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.acceptance.cut import cut_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lapsbench.core import Bank, Costs, Profile

FALL = 0.02
"""Noise of a good measurement: a larger step that is faster by no more is not worth a word."""
STEEP = 0.3
"""No engine is that much faster with more to do: the machine was busy with something else."""
FEW = 30
_AXES = ("batch_size", "query_tokens", "context_tokens", "verify_tokens", "chunk_context_tokens")


def suspicions(profile: Profile) -> list[str]:
    """Return a line per suspicion; none for a sound profile."""
    lines = [*falls(profile.costs), *_missing(profile.costs)]
    if profile.bank is None:
        return [*lines, "no acceptance: replay takes --draft-tokens 0, --acceptance or --acceptance-length"]
    return [*lines, *_of_bank(profile.bank, profile.costs)]


def falls(costs: Costs, least: float = FALL) -> Iterator[str]:
    """Say by component and axis where steps get faster with more work, by more than this share."""
    nothing = np.zeros(len(costs.time_s), np.int32)
    sizes = {name: nothing if (found := getattr(costs, name)) is None else found for name in _AXES}
    kinds = costs.component.astype(str)
    for axis in _AXES:
        fixed = [kinds, *(sizes[name] for name in _AXES if name != axis)]
        order = np.lexsort([sizes[axis], *reversed(fixed)])
        before, after = order[:-1], order[1:]
        beside = np.all([column[before] == column[after] for column in fixed], axis=0)
        before, after = before[beside], after[beside]
        ratio = costs.time_s[after] / costs.time_s[before]
        for component in np.unique(kinds[after]):
            mine = np.flatnonzero(kinds[after] == component)
            falling = mine[ratio[mine] < 1 - least]
            if len(falling):
                worst = falling[np.argmin(ratio[falling])]
                row = after[worst]
                at = ", ".join(f"{name} {sizes[name][row]}" for name in _axes_of(component) if name != axis)
                yield (
                    f"{component}: {len(falling)} of {len(mine)} steps along {axis} get faster; the worst by "
                    f"{100 * (1 - ratio[worst]):.0f} % from {sizes[axis][before[worst]]} to {sizes[axis][row]} ({at})"
                )


def _axes_of(component: str) -> tuple[str, ...]:
    return _AXES if component == "mixed" else _AXES[:3]


def _missing(costs: Costs) -> Iterator[str]:
    for component, what in (
        ("draft", "replay takes --draft-tokens 0 only"),
        ("prefill", "prompts cost no time"),
    ):
        if not costs.has(component):
            yield f"no {component} costs: {what}"


def _of_bank(bank: Bank, costs: Costs) -> Iterator[str]:
    if len(bank) < FEW:
        yield f"only {len(bank)} recordings: requests will share them"
    if (bank.prompt_tokens == 1).all():
        yield "prompt lengths were not recorded: calibrated policies learn from prompts of 1 token"
    longest, times = cut_at(bank)
    if longest:
        yield (
            f"acceptance is said to be recorded to k = {bank.draft_tokens_max}, but {times:,} runs are {longest} long "
            "and none is longer: it looks cut there"
        )
    drafts = costs.query_tokens[costs.component == "draft"]
    if len(drafts) and int(drafts.max()) < bank.draft_tokens_max and len(np.unique(drafts)) > 1:
        yield (
            f"acceptance is recorded to k = {bank.draft_tokens_max}, costs of drafting to k = {int(drafts.max())}: "
            "beyond, costs are extrapolated"
        )
