"""`work-patient` over five values of its patience: the line in the picture of mean against tail. One seed, no cells."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lapsbench.metrics.summary import summarize
from lapsbench.policies.work import OF_TODAY
from lapsbench.sim.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lapsbench.core import Policy
    from lapsbench.sim.sweep import Plan, Simulator
    from lapsbench.sim.today import Today

NAME, PATIENCE = "work-patient", "patience_s"
TIMES = (0.4, 0.7, 1.0, 1.4, 2.0)
"""The patience of the line's points, over the one that was replayed."""


def patience_rows(
    plan: Plan, today: Mapping[float | None, Today], warmup: Mapping[tuple[float | None, int], int], replay: Simulator
) -> list[dict[str, Any]]:
    """Return mean and p99 of JCT by load and patience; nothing for a run without `work-patient`.

    Args:
        plan: the run's.
        today: what fcfs does, by load, for a patience that was not given.
        warmup: arrivals left out, by load and seed.
        replay: what replays a cell.
    """
    patient = next((policy for policy in plan.policies if policy.name == NAME), None)
    if patient is None:
        return []
    found = []
    for load in plan.loads:
        middle_s = patient.parameters[PATIENCE] or OF_TODAY * today[load].p99_s
        cut = warmup[load, plan.seeds[0]]
        found += list(_line(replace(plan, loads=(load,)), patient, middle_s, cut, replay))
    return found


def _line(plan: Plan, patient: Policy, middle_s: float, cut: int, replay: Simulator) -> Iterator[dict[str, Any]]:
    values = [float(f"{middle_s * times:.3g}") for times in TIMES]
    policies = [
        replace(patient, parameters=MappingProxyType({**patient.parameters, PATIENCE: each})) for each in values
    ]
    sweep = Sweep(replace(plan, policies=tuple(policies), seeds=plan.seeds[:1]), replay=replay)
    with closing(sweep.run()) as results:
        for patience_s, each in zip(values, results, strict=True):
            work, cell = each.work, each.cell
            told = summarize(
                work.arrival_s,
                work.output_tokens,
                each.outcome,
                policy=cell.name,
                load=cell.load,
                seed=cell.seed,
                warmup=cut,
            ).metrics
            yield {"load": cell.load, PATIENCE: patience_s} | {name: told[name] for name in ("jct_mean_s", "jct_p99_s")}
