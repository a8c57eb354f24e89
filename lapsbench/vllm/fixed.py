"""A proposer for measuring: as many drafts as it is told, of a token that no model is likely to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNLIKELY = 7
PROPOSER = f"{__name__}.Fixed"
"""As vLLM's `custom_class` wants it named."""


@dataclass(slots=True)
class Told:
    """How many drafts a round gets from now on."""

    drafts: int


class Fixed:
    """vLLM's proposer."""

    def __init__(self, vllm_config: Any) -> None:
        self.told: Told = vllm_config.additional_config["lapsbench"]["told"]

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Nothing drafts: there is no model."""

    def propose(
        self,
        sampled_token_ids: list[list[int]],
        num_tokens_no_spec: NDArray[np.int32],  # noqa: ARG002 - vLLM's signature
        token_ids_cpu: NDArray[np.int32],  # noqa: ARG002
        slot_mappings: Any = None,  # noqa: ARG002
    ) -> list[list[int]]:
        """Return drafts for every row that emitted; others go on with their prefill."""
        return [[UNLIKELY] * self.told.drafts if sampled else [] for sampled in sampled_token_ids]
