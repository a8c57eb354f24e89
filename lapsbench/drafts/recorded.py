"""As many drafts as the drafter found when acceptance was recorded: vLLM's ngram, which may find none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.drafts.registry import controller

if TYPE_CHECKING:
    from lapsbench.drafts.view import Job, Step


@controller(source="the profile's recordings", knows=("what the drafter found",))
def recorded(job: Job, step: Step) -> float:  # noqa: ARG001 - each request has its own
    """Each request what its recording's drafter found there; the simulator knows, and does not ask."""
    return step.most_drafts
