"""What a replay needs beyond the workload: solo times, what the policy has learnt, and when to give up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import CALIBRATION, LARGE, SYSTEM, TABLE, UNLIMITED, Calibration, Engine, Policy, Workload
from lapsbench.errors import LapsbenchError
from lapsbench.policies.predictors import length_class
from lapsbench.policies.uses import reads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lapsbench.core import Floats, Ints


LEARNT = (
    "mean_tokens_per_round",
    "mean_round_s",
    "mean_service_s",
    "service_p20_s",
    "round_s",
    "category_tokens_per_round",
)
"""Fields of `core.SYSTEM` that are NaN without a sample."""
OVERRUN_FACTOR = 10.0
"""A replay that takes this many times what serving one request at a time would is only preempting: it is stopped."""
LIVE_MOST, RANKED_MOST = 2_000_000, 20_000
"""Requests of a large trace that may be live at once, 0.8 kB each; under a policy that ranks them all at
each step, which would take the square of their number. Beyond, the replay is stopped."""


@dataclass(frozen=True, slots=True)
class Solo:
    """Every request on an idle engine; the same for every policy and load."""

    alone_s: Floats
    rounds: Ints
    prefill_s: Floats


@dataclass(frozen=True, slots=True)
class Setup:
    """Arrays of one value per request, `core.SYSTEM` as an array of one, and when to give up: see docs/model.md.

    `token_s` is the engine time of a predicted token: what `SYSTEM.backlog_s` counts with; 0 without a sample.
    `live_most` requests may be live at once: one more, and the replay is stopped. While `wait_most` wait, who arrives
    stays outside: for capacity alone, where everybody is there at 0 and comes in turn.
    """

    alone_s: Floats
    prefill_s: Floats
    predicted_rounds: Floats
    own_tokens_per_round: Floats
    system: NDArray[np.void]
    stall_steps: int
    stop_s: float
    token_s: float = 0.0
    live_most: int = UNLIMITED
    wait_most: int = UNLIMITED


def set_up(
    work: Workload,
    engine: Engine,
    policy: Policy,
    single: Solo,
    calibration: Calibration | None,
    fcfs_p99_s: float = math.nan,
) -> tuple[Workload, Setup]:
    """Return the workload as this policy may know it (oracles are told the truth), and the rest of the set-up.

    `fcfs_p99_s`: for policies that read it.

    Raises:
        LapsbenchError: the policy learns from a calibration sample and there is none.
    """
    n = len(work)
    if policy.oracle in ("lengths", "all"):
        truth = work.output_tokens.astype(np.float64)
        work = replace(work, predicted_tokens=truth, predicted_class=length_class(truth))
    rounds = own = np.full(n, math.nan)
    if policy.oracle in ("all", "own-mean"):
        own = np.maximum(work.output_tokens - 1.0, 1.0) / np.maximum(single.rounds, 1.0)
    if policy.oracle == "all":
        rounds = single.rounds.astype(np.float64)
    most = int((work.prompt_tokens.astype(np.int64) + work.output_tokens).max(initial=1))
    budget = engine.batched_tokens if engine.rules == "vllm" else engine.prefill_budget
    pieces = math.ceil(most / budget) if budget else 1
    return work, Setup(
        alone_s=single.alone_s,
        prefill_s=single.prefill_s,
        predicted_rounds=rounds,
        own_tokens_per_round=own,
        system=system_of(engine, policy, calibration, fcfs_p99_s),
        token_s=token_s_of(engine, calibration),
        stall_steps=1000 + 2 * engine.max_batch * pieces,
        stop_s=float(work.arrival_s.max(initial=0.0) + OVERRUN_FACTOR * single.alone_s.sum()),
        live_most=UNLIMITED if n <= LARGE else RANKED_MOST if policy.rerank == "step" else LIVE_MOST,
    )


def token_s_of(engine: Engine, calibration: Calibration | None) -> float:
    """Return a place's share of a full batch's round, by token; 0 without a sample."""
    if calibration is None or math.isnan(calibration.round_s):
        return 0.0
    return calibration.round_s / max(engine.max_batch, 1) / calibration.mean_tokens_per_round


def table_of(policy: Policy, calibration: Calibration) -> Floats:
    """Return what a policy learns from the sample, learnt once; zeros where it learns nothing."""
    if policy.calibrate is None:
        return np.zeros(TABLE)
    key = policy.calibrate, tuple(policy.parameters.items())
    if key not in calibration.tables:
        where, hint = f"policy {policy.name!r}", "mending its calibrate function"
        try:
            table = np.asarray(policy.calibrate(calibration, policy.parameters), np.float64)
        except Exception as error:  # a user's function may raise anything
            what = f"cannot learn from the sample: {type(error).__name__}: {error}"
            raise LapsbenchError(what, where=where, hint=hint) from error
        if table.shape != (TABLE,):
            raise LapsbenchError(f"learns a table of shape {table.shape}, not ({TABLE},)", where=where, hint=hint)
        calibration.tables[key] = table
    return calibration.tables[key]


def system_of(
    engine: Engine, policy: Policy, calibration: Calibration | None, fcfs_p99_s: float = math.nan
) -> NDArray[np.void]:
    """Return what a policy sees of the engine and has learnt, as an array of one `core.SYSTEM`.

    Raises:
        LapsbenchError: the policy learns from a calibration sample and there is none.
    """
    system = np.zeros(1, SYSTEM)
    system["fcfs_p99_s"] = fcfs_p99_s if reads(policy, "fcfs_p99_s") else math.nan
    system["max_batch"], system["draft_tokens"] = engine.max_batch, engine.draft_tokens
    system["params"][0, : len(policy.parameters)] = list(policy.parameters.values())
    if calibration is None:
        if CALIBRATION in policy.knows:
            raise LapsbenchError(
                "learns from a calibration sample, and the profile has no acceptance bank to take one from",
                where=f"policy {policy.name!r}",
                hint="--calibration TRACE",
            )
        for name in LEARNT:
            system[name] = math.nan
        return system
    system["mean_tokens_per_round"] = calibration.mean_tokens_per_round
    system["mean_round_s"] = calibration.mean_round_s
    system["round_s"] = calibration.round_s
    known = calibration.category_tokens_per_round
    system["category_tokens_per_round"] = calibration.mean_tokens_per_round
    system["category_tokens_per_round"][0, :-1][np.isfinite(known)] = known[np.isfinite(known)]
    system["mean_service_s"] = calibration.service_s.mean()
    system["service_p20_s"] = np.quantile(calibration.service_s, 0.2)
    if policy.calibrate is not None:  # zeros already
        system["table"][0] = table_of(policy, calibration)
    return system
