"""Made-up prompts to hang generated acceptance on: their lengths are those of chat."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.streams import stream

if TYPE_CHECKING:
    from lapsbench.core import Bank, Ints, Strings

PROMPTS = 400


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a bank knows of its prompts: prompt_id, category strings [R]; prompt_tokens, output_tokens int32 [R]."""

    prompt_id: Strings
    category: Strings
    prompt_tokens: Ints
    output_tokens: Ints

    @classmethod
    def of(cls, bank: Bank) -> Prompts:
        """Return the prompts a bank was recorded on."""
        return cls(bank.prompt_id, bank.category, bank.prompt_tokens, bank.output_tokens)

    @classmethod
    def like_chat(cls, seed: int, categories: tuple[str, ...] = ("",)) -> Prompts:
        """Return `PROMPTS` prompts with lengths after the Azure 2023 chat trace: median 850 in, 129 out."""
        names = [f"generated-{number:03d}" for number in range(PROMPTS)]
        return cls(
            prompt_id=np.array(names, dtype=object),
            category=np.array([categories[number % len(categories)] for number in range(PROMPTS)], dtype=object),
            prompt_tokens=_lengths("prompt", seed, median=850, sigma=0.78, most=8192),
            output_tokens=_lengths("output", seed, median=129, sigma=1.08, most=1024),
        )


def _lengths(name: str, seed: int, *, median: float, sigma: float, most: int) -> Ints:
    """Return the lognormal's evenly spaced quantiles, shuffled: with 400 draws the mean itself would be a draw."""
    quantiles = [NormalDist().inv_cdf((number + 0.5) / PROMPTS) for number in range(PROMPTS)]
    lengths = np.rint(median * np.exp(sigma * np.array(quantiles))).clip(16, most)
    return stream(seed, f"published/{name} lengths").permutation(lengths.astype(np.int32))
