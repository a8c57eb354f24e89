"""As the schedule says: vLLM's `num_speculative_tokens_per_batch_size`, and bands of mean context beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.drafts.registry import controller

if TYPE_CHECKING:
    from lapsbench.drafts.view import Step


@controller(source="vLLM 0.32, num_speculative_tokens_per_batch_size", knows=("batch", "mean context"))
def by_batch(step: Step) -> float:
    """As the schedule of --draft-tokens says for this batch; without one, as `profiles describe --schedule` does."""
    return step.scheduled
