"""What a controller sees of a step, as types, and what controllers share. `core.DRAFTING` is the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lapsbench.policies.view import Job as PolicysJob

if TYPE_CHECKING:
    from lapsbench.core import Floats


class Job(PolicysJob, Protocol):
    """A request of the step, read-only: all its policy sees, and what became of its drafts."""

    tried_tokens: int
    drafted_tokens: int


class Step(Protocol):
    """A step that is being made up. Fields and units: `lapsbench.core.DRAFTING`."""

    now_s: float
    number: int
    batch: int
    context_tokens: float
    draft_tokens: int
    most_drafts: int
    max_batch: int
    scheduled: int
    rounds: int
    accepted_tokens: int
    tried: Floats
    passed: Floats
    cost_s: Floats
    would_accept: Floats
    params: Floats
    scratch: Floats
