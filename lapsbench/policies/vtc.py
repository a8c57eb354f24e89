"""Virtual token counter: fair shares between clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.policies.registry import policy

if TYPE_CHECKING:
    from lapsbench.policies.view import Job


@policy(
    preemptive=False,
    source="VTC (OSDI'24, arXiv 2401.00588)",
    knows=("client", "tokens served per client"),
    rerank="step",
    client_weights=("w_in", "w_out"),
)
def vtc(job: Job, w_in: float = 1, w_out: float = 2) -> float:  # noqa: ARG001 - the engine charges the counters
    """Client with the lowest counter first: w_in per prompt token at admission, w_out per emitted token.

    A client that returns is lifted to the lowest counter of those waiting.
    """
    return job.client_tokens
