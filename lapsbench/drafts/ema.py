"""SGLang's adaptive steps: a moving mean of accepted drafts, a slot for each range of batch sizes, hysteresis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.compiled.later import helper
from lapsbench.drafts.registry import controller

if TYPE_CHECKING:
    from lapsbench.drafts.view import Step

SLOT = 4
"""Numbers kept for each: place among the candidates + 1 (0: not begun), moving mean, batches, unused."""


@helper
def slot_of(batch: int) -> int:
    """Return the slot of a batch: from 1, from 8, from 32, from 64."""
    return 0 if batch < 8 else 1 if batch < 32 else 2 if batch < 64 else 3


@helper
def candidate(slot: int, place: int) -> int:
    """Return the drafts at a place among a slot's candidates: 1 3 7, 0 1 3, 0 1, and 0."""
    if slot == 0:
        return 1 if place == 0 else 3 if place == 1 else 7
    return 0 if place == 0 else 1 if place == 1 else 3


@helper
def last_of(slot: int) -> int:
    """Return the place of a slot's last candidate."""
    return 2 if slot < 2 else 1 if slot == 2 else 0


@helper
def moved(slot: int, place: int, mean: float, down: float, up: float) -> int:
    """Return the place that a moving mean of accepted drafts leads to."""
    if candidate(slot, place) == 0:  # a probe
        return min(place + 1, last_of(slot))
    before = place
    while place > 0:
        lower = candidate(slot, place - 1)
        if mean > (0.5 if lower == 0 else lower - 0.5) + down:
            break
        place -= 1
    if place < before:
        return place
    while place < last_of(slot) and mean > candidate(slot, place) - 0.5 + up:
        place += 1
    return place


@controller(source="SGLang, adaptive_spec_params.py", knows=("batch", "accepted drafts so far"))
def ema(
    step: Step, alpha: float = 0.2, interval: float = 5, warmup: float = 10, down: float = -0.25, up: float = 0
) -> float:
    """SGLang's adaptive steps: a moving mean of accepted drafts by range of batch, hysteresis, candidate steps.

    Candidates are SGLang's: 1, 3, 7 drafts below 8 requests, 0, 1, 3 below 32, 0, 1 below 64, none from there on.
    """
    if step.rounds > 0:  # what was learnt belongs to the slot that drafted
        slot = int(step.scratch[SLOT * 4])
        first = SLOT * slot
        if step.draft_tokens > 0:
            mean = step.accepted_tokens / step.rounds
            step.scratch[first + 1] = (1.0 - alpha) * step.scratch[first + 1] + alpha * mean
        step.scratch[first + 2] += 1.0
        late = step.scratch[first + 2] - warmup
        if late > 0.0 and late % interval == 0.0:
            place = int(step.scratch[first]) - 1
            probes = candidate(slot, place) == 0
            place = moved(slot, place, step.scratch[first + 1], down, up)
            step.scratch[first] = place + 1.0
            if probes and step.scratch[first + 1] < 0.0:
                step.scratch[first + 1] = candidate(slot, place) - 1.0
    slot = slot_of(step.batch)
    step.scratch[SLOT * 4] = slot
    if step.scratch[SLOT * slot] == 0.0:
        place = 1 if last_of(slot) > 0 else 0
        step.scratch[SLOT * slot] = place + 1.0
        step.scratch[SLOT * slot + 1] = candidate(slot, place) - 1.0
    return candidate(slot, int(step.scratch[SLOT * slot]) - 1)
