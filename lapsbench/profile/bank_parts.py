"""Recordings of acceptance in the journal of an unfinished profile: one line per batch of prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import Bank

if TYPE_CHECKING:
    from lapsbench.profile.parts import Parts

KIND = "recordings"


def keep(parts: Parts, bank: Bank) -> None:
    """Put those recordings on disk that are not there yet, in one line: prompts answered together are lost together."""
    there = {each["prompt_id"] for line in parts.of(KIND) for each in line["prompts"]}
    fresh = [
        {
            "prompt_id": str(prompt_id),
            "category": str(bank.category[row]),
            "prompt_tokens": int(bank.prompt_tokens[row]),
            "accept_runs": bank.accept_runs[bank.offsets[row] : bank.offsets[row + 1]].tolist(),
        }
        for row, prompt_id in enumerate(bank.prompt_id)
        if prompt_id not in there
    ]
    if fresh:
        parts.keep(KIND, prompts=fresh)


def read(parts: Parts, draft_tokens_max: int) -> Bank | None:
    """Return what is on disk; None where nothing is."""
    found = [each for line in parts.of(KIND) for each in line["prompts"]]
    if not found:
        return None
    runs = [np.array(each["accept_runs"], dtype=np.uint8) for each in found]
    output_tokens = np.array([len(run) for run in runs], dtype=np.int32)
    return Bank(
        prompt_id=np.array([each["prompt_id"] for each in found], dtype=object),
        category=np.array([each["category"] for each in found], dtype=object),
        prompt_tokens=np.array([each["prompt_tokens"] for each in found], dtype=np.int32),
        output_tokens=output_tokens,
        offsets=np.concatenate([[0], np.cumsum(output_tokens)]).astype(np.int64),
        accept_runs=np.concatenate(runs),
        draft_tokens_max=draft_tokens_max,
    )
