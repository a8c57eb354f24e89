"""What a request brings for its policy: `SamplingParams.extra_args`, over HTTP `vllm_xargs`.

Whatever a client sends, a server goes on: what is no prediction counts as none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import CATEGORIES, PRIORITY_MOST
from lapsbench.policies.predictors import length_class
from lapsbench.vllm.calibrate import CLASSES

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from vllm.v1.request import Request

    from lapsbench.vllm.calibrate import Learnt


def brought(request: Request) -> Mapping[str, Any]:
    """Return what came with a request."""
    return (request.sampling_params and request.sampling_params.extra_args) or {}


def client_of(extra: Mapping[str, Any]) -> Hashable:
    """Return whom a request is charged to."""
    return str(extra.get("client", ""))


def seen(request: Request, extra: Mapping[str, Any], learnt: Learnt) -> tuple[dict[str, Any], bool]:
    """Return the fields of `core.JOB` that a request arrives with, and whether it brought a length or a class.

    Without either, the mean of the calibration sample is its prediction; without a sample, what it may emit at most.
    """
    tokens = _number(extra.get("predicted_tokens"), 1.0)
    given = _number(extra.get("predicted_class"), 0.0)
    of_class = int(given) if given < CLASSES else None
    predicted = not math.isnan(tokens) or of_class is not None
    if math.isnan(tokens):
        fallback = float(request.max_tokens) if math.isnan(learnt.mean_tokens) else learnt.mean_tokens
        tokens = float(learnt.class_tokens[of_class]) if of_class is not None else fallback
    prefill = _number(extra.get("prefill_s"), 0.0)
    if math.isnan(prefill):
        known = learnt.prefill_s
        prefill = float(known[min(request.num_prompt_tokens, len(known) - 1)]) if len(known) else 0.0
    return {
        "arrival_s": request.arrival_time,
        "last_run_s": request.arrival_time,
        "prompt_tokens": request.num_prompt_tokens,
        "prefill_left_tokens": request.num_prompt_tokens,
        "predicted_tokens": tokens,
        "predicted_class": int(length_class(np.array(tokens))) if of_class is None else of_class,
        "predicted_rounds": _number(extra.get("predicted_rounds"), 0.0),
        "prefill_s": prefill,
        "category": _category(extra.get("category"), learnt.categories),
        "own_tokens_per_round": _number(extra.get("own_tokens_per_round"), 0.0),
        "priority": max(-PRIORITY_MOST, min(request.priority, PRIORITY_MOST)),
    }, predicted


def _category(value: Any, names: tuple[str, ...]) -> int:
    """Return a category's number, by its name among the profile's, or as it is; -1 for one that is not known."""
    if isinstance(value, str):
        value = names.index(value) if value in names else -1
    number = _number(value, 0.0)
    return int(number) if number < CATEGORIES else -1


def _number(value: Any, least: float) -> float:
    """Return a number of at least that much, else NaN."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if least <= number < math.inf else math.nan
