"""What about a profile should make a user think twice: cells that fall where they should rise, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lapsbench.acceptance.cut import cut_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lapsbench.core import Bank, Costs, Profile

FALL = 0.02
"""Noise of a good measurement: a larger step that is faster by no more is not worth a word."""
FEW = 30
_AXES = ("batch_size", "query_tokens", "context_tokens", "verify_tokens", "chunk_context_tokens")


def suspicions(profile: Profile) -> list[str]:
    """Return a line per suspicion; none for a sound profile."""
    lines = [*_falls(profile.costs), *_missing(profile.costs)]
    if profile.bank is None:
        return [*lines, "no acceptance: replay takes --draft-tokens 0, --acceptance or --acceptance-length"]
    return [*lines, *_of_bank(profile.bank, profile.costs)]


def _falls(costs: Costs) -> Iterator[str]:
    table = pl.DataFrame(
        {
            "component": costs.component,
            "batch_size": costs.batch_size,
            "query_tokens": costs.query_tokens,
            "context_tokens": costs.context_tokens,
            "time_s": costs.time_s,
            "verify_tokens": 0 if costs.verify_tokens is None else costs.verify_tokens,
            "chunk_context_tokens": 0 if costs.chunk_context_tokens is None else costs.chunk_context_tokens,
        }
    )
    for axis in _AXES:
        rest = [name for name in ("component", *_AXES) if name != axis]
        steps = table.sort(*rest, axis).with_columns(
            (pl.col("time_s") / pl.col("time_s").shift(1).over(rest)).alias("ratio"),
            pl.col(axis).shift(1).over(rest).alias("before"),
        )
        for (component,), part in steps.drop_nulls("ratio").group_by("component", maintain_order=True):
            falling = part.filter(pl.col("ratio") < 1 - FALL).sort("ratio")
            if len(falling):
                worst = falling.row(0, named=True)
                at = ", ".join(f"{name} {worst[name]}" for name in _axes_of(component) if name != axis)
                yield (
                    f"{component}: {len(falling)} of {len(part)} steps along {axis} get faster; the worst by "
                    f"{100 * (1 - worst['ratio']):.0f} % from {worst['before']} to {worst[axis]} ({at})"
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
