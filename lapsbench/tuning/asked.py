"""What `lapsbench tune` was asked, checked before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lapsbench.errors import UsageError
from lapsbench.metrics.choice import PLAIN
from lapsbench.scenario import POLICIES, read
from lapsbench.tuning.budget import Budget, budget_of
from lapsbench.tuning.limits import Limit, limit_of, metric_of
from lapsbench.tuning.over import Dimension, dimensions, policy_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lapsbench.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Asked:
    """The question.

    Attributes:
        scenario: today's setting and the traffic; its one policy is today's.
        minimize: a metric of `--json`.
    """

    scenario: Scenario
    over: tuple[Dimension, ...]
    minimize: str
    limits: tuple[Limit, ...]
    budget: Budget


def asked_of(
    today: Path | None,
    given: Mapping[str, Any],
    *,
    over: Sequence[str],
    minimize: str,
    subject_to: Sequence[str],
    budget: str,
) -> Asked:
    """Read the command line; `given`: the flags of `replay`, None where they were not given.

    Raises:
        UsageError: something that means nothing, or that cannot be tuned.
    """
    spending = budget_of(budget)
    scenario = read(today, given)
    if len(scenario.load) > 1:
        raise UsageError("several loads have several answers", where="--load", hint="one of them at a time")
    if scenario.engine == "vllm-native":
        raise UsageError("replays too slowly to search with", where="--engine vllm-native", hint="--engine vllm")
    policies = scenario.policies if "policies" in scenario.model_fields_set else (PLAIN,)
    if len(policies) > 1 and policies != POLICIES:
        raise UsageError(f"{today} names {len(policies)} policies", where="--today", hint="the one that runs today")
    policies = policies[:1]
    policy_of(policies[0], "--today")
    slo = scenario.parsed_slo is not None
    return Asked(
        scenario=scenario.model_copy(update={"policies": policies}),
        over=dimensions(over),
        minimize=metric_of(minimize, "--minimize", slo=slo, lower=True),
        limits=tuple(limit_of(text, slo=slo) for text in subject_to),
        budget=spending,
    )
