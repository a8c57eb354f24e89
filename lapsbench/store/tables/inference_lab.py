"""Step costs of inference-lab, CSV: `batch_size,num_draft_tokens,step_seconds`, the times of whole steps.

`num_draft_tokens` is the tokens verified per sequence, drafts + 1: 1 is plain decoding. A whole step is verification
with drafting and overhead in it, so it becomes `verify`, and drafting beside it costs next to nothing. The file prices
no prefill: a replay on it has prompts for free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lapsbench.core import Costs
from lapsbench.store.linear import together
from lapsbench.store.tables.reader import CostReader, CostTable, csv, header, seconds, sizes

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = ("batch_size", "num_draft_tokens", "step_seconds")
WITHIN_S = 1e-9
"""Drafting is inside the step: a cost table has no zeros."""
CONTEXT = 1
"""One context: times are constant along it."""


def _read(text: bytes, path: Path) -> CostTable:
    frame = csv(text, path, _NEEDS)
    batch, verified = (sizes(frame[name], path) for name in COLUMNS[:2])
    steps = Costs(
        np.full(len(batch), "verify", dtype=object),
        batch.astype(np.int32),
        verified.astype(np.int32),
        np.full(len(batch), CONTEXT, dtype=np.int32),
        seconds(frame[COLUMNS[2]], path),
    )
    drafting = steps.query_tokens > 1
    drafts = Costs(
        np.full(int(drafting.sum()), "draft", dtype=object),
        steps.batch_size[drafting],
        steps.query_tokens[drafting] - 1,
        steps.context_tokens[drafting],
        np.full(int(drafting.sum()), WITHIN_S),
    )
    return CostTable(
        together([steps, drafts]),
        {
            "label": f"whole-step times from {path.name}, prefill not priced",
            "source": f"{path.name}: inference-lab's {_NEEDS}",
            "formulas": {
                "verify": "the whole step, drafting and overhead in it",
                "prefill": "none given, none charged",
            },
        },
    )


_NEEDS = ",".join(COLUMNS)
READER: Final = CostReader(_NEEDS, lambda text: tuple(header(text)[:3]) == COLUMNS, _read)
