"""Hypothesis strategies for what a replay takes, small and awkward; and plain builders for tests that count by hand.

Sizes are chosen so that things collide: ties in arrival and rank, memory for two or three jobs, grids with holes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from hypothesis import strategies as st

from lapsbench.core import CATEGORIES, ON_PREEMPT, Calibration, Costs, Engine, Outcome, Policy, Profile, Workload
from lapsbench.policies.predictors import length_class
from lapsbench.sim import kernel, reference
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import step_costs
from lapsbench.sim.setup import set_up

STEP = ("verify", "draft", "overhead", "swap_out", "swap_in")
CHUNK = ("prefill", "draft_prefill")

CALIBRATION = Calibration(
    rounds=np.random.default_rng(0).integers(1, 30, 200).astype(np.int32),
    service_s=np.random.default_rng(1).random(200) * 0.2,
    predicted_class=np.random.default_rng(2).integers(0, 5, 200).astype(np.int32),
    mean_tokens_per_round=2.2,
    mean_round_s=0.005,
    round_s=0.003,
    predicted_tokens=np.random.default_rng(3).integers(1, 80, 200) * 1.0,
    output_tokens=np.random.default_rng(4).integers(1, 80, 200) * 1.0,
    category_tokens_per_round=np.array([1.5, 3.0, *[np.nan] * (CATEGORIES - 2)]),
)


@dataclass(frozen=True)
class Scenario:
    """Everything but the policy."""

    work: Workload
    engine: Engine
    profile: Profile
    patience_steps: int | None = None
    """Steps without progress after which a replay stops, where that is to be sooner than usual."""
    calibration: Calibration = CALIBRATION

    def ready(self, policy: Policy):
        """Return the arguments of both `replay` functions, for this policy."""
        costs = step_costs(self.profile, self.engine)
        work, setup = set_up(self.work, self.engine, policy, solo(self.work, self.engine, costs), self.calibration)
        if self.patience_steps is not None:
            setup = replace(setup, stall_steps=self.patience_steps)
        return work, self.engine, policy, costs, setup

    def replay(self, policy: Policy) -> Outcome:
        return kernel.replay(*self.ready(policy))

    def twin(self, policy: Policy) -> Outcome:
        return reference.replay(*self.ready(policy))

    def unlike(self, policy: Policy) -> list[str]:
        """Return the names of the fields in which kernel and twin differ."""
        ready = self.ready(policy)
        return differences(kernel.replay(*ready), reference.replay(*ready))


def differences(one: Outcome, other: Outcome) -> list[str]:
    """Return the names of the fields in which two outcomes differ in any bit."""
    return [f.name for f in fields(Outcome) if not same(getattr(one, f.name), getattr(other, f.name))]


def same(one, other) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return one == other


# built by hand -----------------------------------------------------------------------------------------------------


def workload(
    arrival_s, output_tokens, *, prompt_tokens=1, predicted_tokens=None, client=None, accept_runs=(0,)
) -> Workload:
    """Make a workload of lists; every request follows the one recording `accept_runs`."""
    n = len(arrival_s)
    output = np.asarray(output_tokens, np.int32)
    predicted = np.asarray(output if predicted_tokens is None else predicted_tokens, np.float64)
    clients = np.zeros(n, np.int32) if client is None else np.asarray(client, np.int32)
    return Workload(
        arrival_s=np.asarray(arrival_s, np.float64),
        prompt_tokens=np.broadcast_to(np.asarray(prompt_tokens, np.int32), n).copy(),
        output_tokens=output,
        predicted_tokens=predicted,
        predicted_class=length_class(predicted),
        client=clients,
        clients=int(clients.max(initial=0)) + 1,
        recording_start=np.zeros(n, np.int64),
        recording_tokens=np.full(n, len(accept_runs), np.int32),
        recording_shift=np.zeros(n, np.int32),
        accept_runs=np.asarray(accept_runs, np.uint8),
    )


def grid(rows) -> Costs:
    """Make a cost table of (component, batch, query, context, seconds), `mixed` with (..., verify, chunk context)."""
    component, batch, query, context, time_s, *mixed = zip(*((*row, 0, 0)[:7] for row in rows), strict=True)
    sizes = (np.array(size, np.int32) for size in (batch, query, context))
    mixed = [np.array(size, np.int32) for size in mixed] if "mixed" in component else []
    return Costs(np.array(component, object), *sizes, np.array(time_s, np.float64), *mixed)


def constant(seconds=1.0, **others) -> Profile:
    """Make a profile where a pass of the target takes `seconds` whatever is in it; others: component=seconds."""
    times = {"verify": seconds, "prefill": seconds, **others}
    return Profile("constant", grid([(component, 1, 1, 0, time_s) for component, time_s in times.items()]), None)


def long_prompts_short_answers(n=400):
    """Return requests that nobody predicts: prompts of 1,000 tokens are answered in 5, those of 10 in 60."""
    draw = np.random.default_rng(0)
    long = draw.random(n) < 0.5
    outputs = np.where(long, 5, 60) + draw.integers(0, 4, n)
    work = workload(np.arange(n) * 4.5, outputs.tolist(), prompt_tokens=np.where(long, 1000, 10).tolist())
    return replace(work, predicted_tokens=np.full(n, outputs.mean()))


# drawn by hypothesis -----------------------------------------------------------------------------------------------


@st.composite
def workloads(draw, most=24) -> Workload:
    """Requests: bursts, ties, all at once; prompts and outputs from one token up; up to three clients."""
    n = draw(st.integers(1, most))
    gap = draw(st.sampled_from([0.0, 0.001, 0.02, 0.3]))
    arrival_s = np.cumsum(draw(st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.7]), min_size=n, max_size=n))) * gap
    prompts = st.sampled_from([1, 2, 7, 40, 64, 150, 299])
    outputs = st.one_of(st.just(1), st.integers(2, 12), st.integers(20, 60))
    recordings = draw(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=1, max_size=4))
    lengths = np.array([len(recording) for recording in recordings])
    starts = np.cumsum(lengths) - lengths
    rows = st.tuples(
        prompts,
        outputs,
        st.sampled_from([0.3, 1.0, 1.0, 2.5]),
        st.integers(0, 2),
        st.integers(0, len(recordings) - 1),
        st.integers(0, 11),
    )
    prompt, output, error, client, recording, shift = zip(*draw(st.lists(rows, min_size=n, max_size=n)), strict=True)
    predicted = np.maximum(1.0, np.array(output) * np.array(error))
    recording = np.array(recording)
    return Workload(
        arrival_s=arrival_s,
        prompt_tokens=np.array(prompt, np.int32),
        output_tokens=np.array(output, np.int32),
        predicted_tokens=predicted,
        predicted_class=length_class(predicted),
        client=np.array(client, np.int32),
        category=np.array(client, np.int32) - 1,
        clients=3,
        recording_start=starts[recording].astype(np.int64),
        recording_tokens=lengths[recording].astype(np.int32),
        recording_shift=(np.array(shift) % lengths[recording]).astype(np.int32),
        accept_runs=np.concatenate([np.array(runs, np.uint8) for runs in recordings]),
    )


@st.composite
def engines(draw, *, most_batch=9, most_drafts=8, kv_tokens=(0, 70, 200, 420, 900), on_preempt=ON_PREEMPT) -> Engine:
    """Engines of one to nine places; the memory holds everything, or one to a few jobs."""
    return Engine(
        max_batch=draw(st.integers(1, most_batch)),
        draft_tokens=draw(st.integers(0, most_drafts)),
        prefill_budget=draw(st.sampled_from([0, 0, 1, 7, 64, 500])),
        kv_tokens=draw(st.sampled_from(kv_tokens)),
        on_preempt=draw(st.sampled_from(on_preempt)),
    )


def axis(first, last):
    """One grid point, or a few."""
    return st.lists(st.integers(first, last), min_size=1, max_size=4, unique=True).map(sorted)


@st.composite
def components(draw, name, batches, queries, contexts):
    """Grid points of one component, some of them missing."""
    points = [(b, q, c) for b in draw(batches) for q in draw(queries) for c in draw(contexts)]
    # all of a grid from one number, of which 0 is the plainest: drawn one by one they took a third of a replay's test
    number = draw(st.integers(0, 999))
    random = np.random.default_rng(number)
    kept = random.random(len(points)) < (0.5 if number else 1.0)
    kept[0] = True
    times = random.integers(1, 41 if number else 2, len(points)).tolist()
    return [(name, *point, 1e-4 * time) for point, keep, time in zip(points, kept, times, strict=True) if keep]


@st.composite
def profiles(draw, *, complete=False) -> Profile:
    """Cost tables: ragged, of one point, with and without the components that are optional."""
    rows = draw(components("verify", axis(1, 9), axis(1, 9), axis(0, 400)))
    rows += [("verify", 1, 1, 0, 0.001)] if ("verify", 1, 1, 0) not in {row[:4] for row in rows} else []
    rows += draw(components("draft", axis(1, 9), axis(1, 8), axis(0, 400)))
    for name in ("prefill", "draft_prefill"):
        if complete or draw(st.booleans()):
            rows += draw(components(name, axis(1, 1), axis(1, 300), axis(0, 300)))
    if complete or draw(st.booleans()):
        rows += draw(components("overhead", axis(1, 9), axis(1, 1), axis(0, 0)))
    if complete or draw(st.booleans()):
        rows += draw(components("swap_out", axis(1, 1), axis(1, 1), axis(1, 400)))
        rows += draw(components("swap_in", axis(1, 1), axis(1, 1), axis(1, 400)))
    if draw(st.booleans()):
        shapes = draw(components("mixed", axis(1, 9), axis(1, 200), axis(0, 400)))
        more = [(verify, cached) for verify in draw(axis(1, 9)) for cached in draw(axis(0, 200))]
        rows += [(*row[:4], row[4] * (1 + 0.1 * place), *more[place]) for row in shapes for place in range(len(more))]
    return Profile("drawn", grid(rows), None)


@st.composite
def scenarios(draw, *, engine=engines()) -> Scenario:  # noqa: B008 - strategies are immutable
    """A workload, an engine and a profile. Livelocks, frequent in so little memory, end after 200 steps."""
    return Scenario(draw(workloads()), draw(engine), draw(profiles()), 200)
