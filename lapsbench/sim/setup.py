"""What a replay needs beyond the workload: solo times, what the policy has learnt, and when to give up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import CALIBRATION, SYSTEM, Calibration, Engine, Policy, Workload
from lapsbench.errors import LapsbenchError
from lapsbench.policies.predictors import length_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lapsbench.core import Floats, Ints


OVERRUN_FACTOR = 10.0
"""A replay that takes this many times what serving one request at a time would is only preempting: it is stopped."""


@dataclass(frozen=True, slots=True)
class Solo:
    """Every request on an idle engine; the same for every policy and load."""

    alone_s: Floats
    rounds: Ints
    prefill_s: Floats


@dataclass(frozen=True, slots=True)
class Setup:
    """Arrays of one value per request, `core.SYSTEM` as an array of one, and when to give up: see docs/model.md."""

    alone_s: Floats
    prefill_s: Floats
    predicted_rounds: Floats
    system: NDArray[np.void]
    stall_steps: int
    stop_s: float


def set_up(
    work: Workload, engine: Engine, policy: Policy, single: Solo, calibration: Calibration | None
) -> tuple[Workload, Setup]:
    """Return the workload as this policy may know it (oracles are told the truth), and the rest of the set-up.

    Raises:
        LapsbenchError: the policy learns from a calibration sample and there is none.
    """
    n = len(work)
    if policy.oracle:
        truth = work.output_tokens.astype(np.float64)
        work = replace(work, predicted_tokens=truth, predicted_class=length_class(truth))
    rounds = single.rounds.astype(np.float64) if policy.oracle else np.full(n, math.nan)
    most = int((work.prompt_tokens.astype(np.int64) + work.output_tokens).max(initial=1))
    budget = engine.batched_tokens if engine.rules == "vllm" else engine.prefill_budget
    pieces = math.ceil(most / budget) if budget else 1
    return work, Setup(
        alone_s=single.alone_s,
        prefill_s=single.prefill_s,
        predicted_rounds=rounds,
        system=system_of(engine, policy, calibration),
        stall_steps=1000 + 2 * engine.max_batch * pieces,
        stop_s=float(work.arrival_s.max(initial=0.0) + OVERRUN_FACTOR * single.alone_s.sum()),
    )


def system_of(engine: Engine, policy: Policy, calibration: Calibration | None) -> NDArray[np.void]:
    """Return what a policy sees of the engine and has learnt, as an array of one `core.SYSTEM`.

    Raises:
        LapsbenchError: the policy learns from a calibration sample and there is none.
    """
    system = np.zeros(1, SYSTEM)
    system["max_batch"], system["draft_tokens"] = engine.max_batch, engine.draft_tokens
    system["params"][0, : len(policy.parameters)] = list(policy.parameters.values())
    if calibration is None:
        if CALIBRATION in policy.knows:
            raise LapsbenchError(
                "learns from a calibration sample, and the profile has no acceptance bank to take one from",
                where=f"policy {policy.name!r}",
                hint="--calibration TRACE",
            )
        for name in ("mean_tokens_per_round", "mean_round_s", "mean_service_s", "service_p20_s"):
            system[name] = math.nan
        return system
    system["mean_tokens_per_round"] = calibration.mean_tokens_per_round
    system["mean_round_s"] = calibration.mean_round_s
    system["mean_service_s"] = calibration.service_s.mean()
    system["service_p20_s"] = np.quantile(calibration.service_s, 0.2)
    if policy.calibrate is not None:
        system["table"][0] = policy.calibrate(calibration, policy.parameters)
    return system
