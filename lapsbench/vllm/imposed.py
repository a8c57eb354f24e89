"""Imposed acceptance: a proposer that decides how many of its drafts the target will accept, and a sampler that obeys.

On the CPU alone: vLLM's own "synthetic" rejection does not run there, and the sampler's kernel can be exchanged.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import vllm.utils.cpu_triton_utils as kernels
from vllm.v1.spec_decode.dynamic.utils import build_dynamic_sd_schedule_lookup

from lapsbench.sim.reference.common import accepted, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from lapsbench.core import Workload

ACCEPTED, REJECTED, INSTEAD = 5, 6, 7
"""Tokens: of a draft that is to be accepted, of one that is not, and what the target says in its place."""
PROPOSER = f"{__name__}.Imposed"
"""As vLLM's `custom_class` wants it named."""


@dataclass(frozen=True, slots=True)
class Recordings:
    """What the target is to accept of whom; the first token of a prompt says whose it is.

    `varies`: there are as many drafts as were found when it was recorded.
    """

    work: Workload
    first_token: int
    varies: bool = False


class Imposed:
    """vLLM's proposer."""

    def __init__(self, vllm_config: Any) -> None:
        config = vllm_config.speculative_config
        self.drafts = config.num_speculative_tokens
        schedule, batch = config.num_speculative_tokens_per_batch_size, vllm_config.scheduler_config.max_num_seqs
        self.by_batch = build_dynamic_sd_schedule_lookup(schedule, batch, self.drafts) if schedule else None
        self.recordings: Recordings | None = vllm_config.additional_config["lapsbench"].get("recordings")

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Nothing drafts: there is no model."""

    def propose(
        self,
        sampled_token_ids: list[list[int]],
        num_tokens_no_spec: NDArray[np.int32],
        token_ids_cpu: NDArray[np.int32],
        slot_mappings: Any = None,  # noqa: ARG002 - vLLM's signature
    ) -> list[list[int]]:
        """Return the drafts of every row that emitted; others go on with their prefill."""
        if self.by_batch is not None:  # whoever is in a step decides over the next
            self.drafts = self.by_batch[len(sampled_token_ids)]
        return [
            self.drafted(int(token_ids_cpu[row, 0]), int(num_tokens_no_spec[row])) if sampled else []
            for row, sampled in enumerate(sampled_token_ids)
        ]

    def drafted(self, first_token: int, context_tokens: int) -> list[int]:
        """Return a request's drafts, as many of them to be accepted as its recording says."""
        assert self.recordings is not None  # noqa: S101 - whoever has none drafts in another way
        work, request = self.recordings.work, first_token - self.recordings.first_token
        emitted = context_tokens - int(work.prompt_tokens[request])
        drafts = recorded(work, work.drafted, request, emitted) if self.recordings.varies else self.drafts
        return marked(accepted(work, request, emitted), min(drafts, self.drafts))


def marked(run: int, drafts: int) -> list[int]:
    """Return so many drafts, of which so many are to be accepted."""
    run = min(run, drafts)
    return [ACCEPTED] * run + [REJECTED] * (drafts - run)


@contextmanager
def obeyed(when: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Have the target agree with what a proposer marked. An engine takes the kernel when it is made, for good.

    `when`: whether it is to agree just now.
    """
    real = kernels._rejection_greedy_sample_kernel_impl  # noqa: SLF001 - the one place where it can be exchanged

    def obeying(output: Any, ends: Any, drafts: Any, target: Any, *rest: Any, **more: Any) -> Any:
        if not when():
            return real(output, ends, drafts, target, *rest, **more)
        marked = drafts == ACCEPTED
        said = torch.where(marked, torch.full_like(target, ACCEPTED), torch.full_like(target, INSTEAD))
        return real(output, ends, drafts, said, *rest, **more)

    kernels._rejection_greedy_sample_kernel_impl = obeying  # noqa: SLF001
    try:
        yield
    finally:
        kernels._rejection_greedy_sample_kernel_impl = real  # noqa: SLF001
