"""Step costs from a linear formula: a fixed time, and a time per batched token and per cached token.

The table is linear along every axis, so the simulator's interpolation between its grid points is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import Costs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = (0, 128, 512, 2048, 8192, 32768)
CHUNKS = (1, 128, 512, 2048, 8192, 32768)


@dataclass(frozen=True, slots=True)
class Linear:
    """time_s = fixed_s + per_token_s * batch_size * query_tokens + per_kv_token_s * batch_size * context_tokens."""

    fixed_s: float
    per_token_s: float = 0.0
    per_kv_token_s: float = 0.0


def tabulate(
    component: str,
    linear: Linear,
    batch_sizes: Sequence[int] = (1,),
    query_tokens: Sequence[int] = (1,),
    context_tokens: Sequence[int] = (0,),
) -> Costs:
    """Return the cost rows of one component over the full grid of these sizes."""
    grid = np.meshgrid(batch_sizes, query_tokens, context_tokens, indexing="ij")
    batch, query, context = (axis.ravel().astype(np.int32) for axis in grid)
    of_tokens = linear.per_token_s * batch * query
    of_kv = linear.per_kv_token_s * batch * context
    return Costs(
        np.full(len(batch), component, dtype=object), batch, query, context, linear.fixed_s + of_tokens + of_kv
    )


def step_model(target: Linear, draft: Linear, overhead: Linear, draft_tokens_max: int) -> Costs:
    """Return the costs of a step: verification and prefill are passes of the target, a round's drafting is one."""
    return together(
        [
            tabulate("draft", draft, BATCH_SIZES, range(1, draft_tokens_max + 1), CONTEXTS),
            tabulate("verify", target, BATCH_SIZES, range(1, draft_tokens_max + 2), CONTEXTS),
            tabulate("prefill", target, (1,), CHUNKS, CONTEXTS),
            tabulate("overhead", overhead),
        ]
    )


def together(parts: Iterable[Costs]) -> Costs:
    """Return the rows of all parts as one table."""
    tables = list(parts)
    return Costs(
        np.concatenate([table.component for table in tables]),
        np.concatenate([table.batch_size for table in tables]),
        np.concatenate([table.query_tokens for table in tables]),
        np.concatenate([table.context_tokens for table in tables]),
        np.concatenate([table.time_s for table in tables]),
    )
