"""From steps that were taken to the rows of a cost table: what a step took, less what its other parts take."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lapsbench.core import Costs
from lapsbench.vllm.wanted import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.core import Floats

    Middle = Callable[[Any], Any]
    Row = tuple[str, int, int, int, int, int]

LEAST_S = 1e-9
"""A profile has no times of 0, and a difference of two medians may be none."""


class Lines(Protocol):
    """What was measured: lines by kind."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the lines of a kind."""


def rows_of(parts: Lines, middle: Middle = np.median) -> dict[Row, Floats]:
    """Return the times of every point: what a step took, less what its other components are said to take."""
    steps: dict[Step, list[dict[str, float]]] = defaultdict(list)
    for line in parts.of("steps"):
        for each in line["taken"]:
            steps[Step(**each["step"])].append(each)
    overhead: dict[int, list[float]] = defaultdict(list)
    drafting: dict[tuple[int, int], list[float]] = defaultdict(list)
    for step, times in steps.items():
        if not step.tokens:
            overhead[step.rounds] += [each["whole_s"] - each["target_s"] - each["draft_s"] for each in times]
            if step.drafts:
                drafting[step.rounds, step.drafts] += [each["draft_s"] for each in times]
    if found := parts.of("drafting"):  # by who drafts really
        drafting = {(line["rounds"], line["drafts"]): line["draft_s"] for line in found}
    rows: dict[Row, Floats] = {("overhead", size, 1, 0, 0, 0): np.array(times) for size, times in overhead.items()}
    rows |= {("draft", size, k, 0, 0, 0): np.array(times) for (size, k), times in drafting.items()}
    known = {size: float(middle(times)) for size, times in overhead.items()}
    for step, times in steps.items():
        if not step.rounds and step.drafts:
            continue  # prompts alone are as the engine without drafts has them
        whole = np.array([each["whole_s"] - each["draft_s"] for each in times])
        jobs = max(step.rounds + bool(step.tokens), 1)
        row = _row(step)
        rows[row] = np.maximum(whole - np.interp(jobs, sorted(known), [known[size] for size in sorted(known)]), LEAST_S)
    return dict(sorted(rows.items()))


def _row(step: Step) -> Row:
    if not step.tokens:
        return "verify", step.rounds, 1 + step.drafts, step.context, 0, 0
    if not step.rounds:
        return "prefill", 1, step.tokens, step.cached, 0, 0
    return "mixed", step.rounds, step.tokens, step.context, 1 + step.drafts, step.cached


def costs_of(rows: dict[Row, Floats], middle: Middle = np.median) -> Costs:
    """Return the prices: medians, or what else is the middle of repeated times."""
    component, *sizes = zip(*rows, strict=True)
    batch, query, context, verify, cached = (np.array(size, np.int32) for size in sizes)
    time_s = np.array([float(middle(times)) for times in rows.values()])
    return Costs(np.array(component, object), batch, query, context, np.maximum(time_s, LEAST_S), verify, cached)
