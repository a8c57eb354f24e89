"""From trace and profile to a workload ready to run; the capacity of an engine; what calibrated policies learn from."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.acceptance.rounds import Assignment, whole
from lapsbench.acceptance.sample import assign, groups
from lapsbench.core import CATEGORIES, LARGE, Calibration, Engine, Profile, Trace, Workload
from lapsbench.errors import LapsbenchError
from lapsbench.policies.predictors import Predictor, predict
from lapsbench.policies.registry import find
from lapsbench.sim import kernel
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import BY_DRAFTS, DRAFT, OVERHEAD, VERIFY
from lapsbench.sim.interpolation import along
from lapsbench.sim.setup import set_up
from lapsbench.streams import stream

if TYPE_CHECKING:
    from lapsbench.core import Bank, Bytes, Floats, Ints, Outcome
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Solo
    from lapsbench.sim.sweep import Simulator

CALIBRATION_SEED = 2505_17074
"""Calibration draws are the same in every trial, and shared with none: an operator calibrates once."""
CALIBRATION_REQUESTS = 1000
WHOLE = ("clients", "accept_runs", "drafted")
"""Fields of `Workload` that are not of one value per request."""


def workload(trace: Trace, profile: Profile, engine: Engine, predictor: Predictor, seed: int) -> Workload:
    """Give every request its acceptance and its prediction.

    Raises:
        LapsbenchError: the profile has no acceptance, or not for this many draft tokens.
    """
    drawn, accept_runs = _acceptance(trace, profile, engine, seed)
    predicted, classes = predict(predictor, trace.output_tokens, seed, given=trace.predicted_tokens)
    ready = _ready(trace, drawn, accept_runs, predicted, classes)
    return replace(ready, category=_category(trace, profile), drafted=_drafted(profile))


def at_capacity(
    work: Workload, engine: Engine, costs: StepCosts, replay: Simulator = kernel.replay, single: Solo | None = None
) -> float:
    """Return the engine's capacity in requests per second: this work under fcfs, all of it there at 0.

    Who is not among the next to run stays outside until then, which changes nothing and needs no memory; only where
    requests further back may go first, as they do on the ideal engine with a memory limit, are all live at once: there
    it is the capacity of the first `LARGE` of them.

    `single`: `solo` of this work, if it is at hand.

    Raises:
        LapsbenchError: nothing can be served at all.
    """
    fcfs = find("fcfs")
    if engine.rules == "ideal" and engine.kv_tokens and len(work) > LARGE:
        work, single = first_of(work, LARGE), None
    burst = replace(work, arrival_s=np.zeros(len(work)))
    burst, setup = set_up(burst, engine, fcfs, single or solo(burst, engine, costs), None)
    if not (engine.rules == "ideal" and engine.kv_tokens):
        setup = replace(setup, wait_most=4 * engine.max_batch, live_most=6 * engine.max_batch)
    outcome = replay(burst, engine, fcfs, costs, setup)
    done = int(np.isfinite(outcome.finished_s).sum())
    if done == 0 or outcome.makespan_s <= 0:
        raise LapsbenchError(
            "the engine finishes no request of this trace, so it has no capacity to take a fraction of",
            where=f"--kv-tokens {engine.kv_tokens}" if engine.kv_tokens else "--load",
            hint=f"more KV tokens: the smallest request needs {_least(work, engine)}",
        )
    return done / outcome.makespan_s


def calibration(
    profile: Profile, engine: Engine, predictor: Predictor, costs: StepCosts, history: Trace | None
) -> Calibration | None:
    """Replay requests that are not in the trace under fcfs, all there at 0, and keep what policies may learn.

    The requests: `history`, if given; else the profile's own recorded prompts, drawn with replacement. None where the
    profile records none.
    """
    if history is None and profile.bank is None:
        return None
    if history is None and profile.bank is not None:
        trace, drawn = _from_bank(profile.bank, max(CALIBRATION_REQUESTS, 4 * engine.max_batch))
        accept_runs, source = (
            profile.bank.accept_runs,
            f"{len(trace)} draws from the prompts recorded in {profile.name}",
        )
    else:
        trace = history
        drawn, accept_runs = _acceptance(trace, profile, engine, CALIBRATION_SEED)
        source = f"{len(trace)} requests of {trace.name}"
    guess = predictor
    if predictor.name == "trace" and trace.predicted_tokens is None:
        guess = Predictor("none")  # nothing is known of these requests' predictions: one class
    predicted, classes = predict(guess, trace.output_tokens, CALIBRATION_SEED, given=trace.predicted_tokens)
    ready = _ready(trace, drawn, accept_runs, predicted, classes)
    known = {"category": _category(trace, profile), "drafted": _drafted(profile)}
    work = replace(ready, arrival_s=np.zeros(len(trace)), **known)
    return _learn(work, replace(engine, kv_tokens=0), costs, source)


def _drafted(profile: Profile) -> Bytes:
    """Return how many drafts were made, where it is known."""
    bank = profile.bank
    return np.zeros(0, np.uint8) if bank is None or bank.drafted is None else bank.drafted


def _category(trace: Trace, profile: Profile) -> Ints:
    """Return the number of each request's category among the bank's; -1 where it has none, or it is one too many."""
    if trace.category is None or profile.bank is None:
        return np.full(len(trace), -1, np.int32)
    numbers = groups(trace, profile.bank)
    return np.where(numbers < CATEGORIES, numbers, -1).astype(np.int32)


def _learn(work: Workload, engine: Engine, costs: StepCosts, source: str) -> Calibration:
    fcfs = find("fcfs")
    ready, setup = set_up(work, engine, fcfs, solo(work, engine, costs), None)
    outcome = kernel.replay(ready, engine, fcfs, costs, setup)
    rounds = max(int(outcome.rounds.sum(dtype=np.int64)), 1)
    accepted = int(outcome.accepted_tokens.sum(dtype=np.int64))
    return Calibration(
        rounds=outcome.rounds,
        service_s=outcome.finished_s - outcome.admitted_s,
        predicted_class=work.predicted_class,
        mean_tokens_per_round=1.0 + accepted / rounds,
        mean_round_s=float((outcome.finished_s - outcome.first_token_s).sum()) / rounds,
        source=source,
        round_s=_round_s(work, outcome, engine, costs),
        predicted_tokens=work.predicted_tokens,
        output_tokens=work.output_tokens.astype(np.float64),
        category_tokens_per_round=_by_category(work.category, outcome),
    )


def _round_s(work: Workload, outcome: Outcome, engine: Engine, costs: StepCosts) -> float:
    """Price a step in which a full batch does a round at the mean context of all rounds, and nobody's prefill.

    Where drafts vary, with the sample's mean drafts a round; between whole numbers on a line.
    """
    halfway = work.prompt_tokens + (1.0 + work.output_tokens) / 2
    weights = np.maximum(outcome.rounds, 1e-9)
    context = np.array([float((halfway * weights).sum() / weights.sum())])

    def priced(draft: int, verify: int) -> float:
        parts = [(OVERHEAD, np.zeros(1)), (draft, context), (verify, context)]
        times = [along(costs.context, costs.step_s[part, engine.max_batch], at)[0] for part, at in parts]
        return float(sum(max(0.0, float(time_s)) for time_s in times))

    if not engine.drafts:
        return priced(DRAFT, VERIFY)
    tally = outcome.by_batch
    drafts = float(tally[:, 1].sum() / max((tally[:, 0] * np.arange(len(tally))).sum(), 1.0))
    below, above = (priced(BY_DRAFTS + 2 * k, BY_DRAFTS + 2 * k + 1) for k in (math.floor(drafts), math.ceil(drafts)))
    return below + (drafts - math.floor(drafts)) * (above - below)


def _by_category(category: Ints, outcome: Outcome) -> Floats:
    """Pool the tokens per round of each category."""
    mine = (category >= 0) & (outcome.rounds > 0)
    rounds = np.bincount(category[mine], outcome.rounds[mine], CATEGORIES)
    accepted = np.bincount(category[mine], outcome.accepted_tokens[mine], CATEGORIES)
    return np.divide(rounds + accepted, rounds, out=np.full(CATEGORIES, np.nan), where=rounds > 0)


def _from_bank(bank: Bank, count: int) -> tuple[Trace, Assignment]:
    """Draw recorded prompts, each with its own lengths and its own recording."""
    rows = stream(CALIBRATION_SEED, "calibration/rows").integers(0, len(bank), count)
    own = whole(bank)
    lengths = bank.prompt_tokens[rows], bank.output_tokens[rows]
    trace = Trace("bank", np.zeros(count), *lengths, category=bank.category[rows])
    return trace, Assignment(own.recording_start[rows], own.recording_tokens[rows], own.recording_shift[rows])


def _acceptance(trace: Trace, profile: Profile, engine: Engine, seed: int) -> tuple[Assignment, Bytes]:
    bank, k, n = profile.bank, engine.draft_tokens, len(trace)
    if bank is None and k > 0:
        raise LapsbenchError(
            "has costs but no acceptance, so nothing says how many drafts are accepted",
            where=f"profile {profile.name}",
            hint="--acceptance-length X, --acceptance FILE, or --draft-tokens 0",
        )
    if bank is None:
        return Assignment(np.zeros(n, np.int64), np.ones(n, np.int32), np.zeros(n, np.int32)), np.zeros(1, np.uint8)
    if k > bank.draft_tokens_max:
        raise LapsbenchError(
            f"recorded acceptance up to {bank.draft_tokens_max} draft tokens; {k} would understate it",
            where=f"profile {profile.name}",
            hint=f"--draft-tokens {bank.draft_tokens_max} or less",
        )
    return assign(trace, bank, seed), bank.accept_runs


def _ready(trace: Trace, drawn: Assignment, accept_runs: Bytes, predicted: Floats, classes: Ints) -> Workload:
    numbers, clients = np.zeros(len(trace), np.int32), 1
    if trace.client_id is not None:
        number = {name: each for each, name in enumerate(dict.fromkeys(name or "" for name in trace.client_id))}
        numbers = np.fromiter((number[name or ""] for name in trace.client_id), np.int32, len(trace))
        clients = len(number)
    return Workload(
        arrival_s=trace.arrival_s,
        prompt_tokens=trace.prompt_tokens,
        output_tokens=trace.output_tokens,
        predicted_tokens=predicted,
        predicted_class=classes,
        client=numbers,
        clients=clients,
        recording_start=drawn.recording_start,
        recording_tokens=drawn.recording_tokens,
        recording_shift=drawn.recording_shift,
        accept_runs=accept_runs,
        **({} if trace.priority is None else {"priority": trace.priority}),
    )


def first_of(work: Workload, count: int) -> Workload:
    """Return the first requests alone."""
    rows = {each.name: getattr(work, each.name)[:count] for each in fields(work) if each.name not in WHOLE}
    return replace(work, **rows)


def _least(work: Workload, engine: Engine) -> int:
    return int((work.prompt_tokens.astype(np.int64) + work.output_tokens).min()) + engine.draft_tokens
