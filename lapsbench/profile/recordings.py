"""Recordings of acceptance in the journal of an unfinished profile: one line per prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import Bank

if TYPE_CHECKING:
    from lapsbench.profile.parts import Parts

KIND = "recording"


def keep(parts: Parts, bank: Bank) -> None:
    """Put those recordings on disk that are not there yet."""
    there = {line["prompt_id"] for line in parts.of(KIND)}
    for row, prompt_id in enumerate(bank.prompt_id):
        if prompt_id not in there:
            runs = bank.accept_runs[bank.offsets[row] : bank.offsets[row + 1]]
            parts.keep(
                KIND,
                prompt_id=str(prompt_id),
                category=str(bank.category[row]),
                prompt_tokens=int(bank.prompt_tokens[row]),
                accept_runs=runs.tolist(),
            )


def read(parts: Parts, draft_tokens_max: int) -> Bank | None:
    """Return what is on disk; None where nothing is."""
    lines = parts.of(KIND)
    if not lines:
        return None
    runs = [np.array(line["accept_runs"], dtype=np.uint8) for line in lines]
    output_tokens = np.array([len(run) for run in runs], dtype=np.int32)
    return Bank(
        prompt_id=np.array([line["prompt_id"] for line in lines], dtype=object),
        category=np.array([line["category"] for line in lines], dtype=object),
        prompt_tokens=np.array([line["prompt_tokens"] for line in lines], dtype=np.int32),
        output_tokens=output_tokens,
        offsets=np.concatenate([[0], np.cumsum(output_tokens)]).astype(np.int64),
        accept_runs=np.concatenate(runs),
        draft_tokens_max=draft_tokens_max,
    )
