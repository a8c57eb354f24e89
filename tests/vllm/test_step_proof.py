"""The real engine composes the steps that the simulator composes: in every step the same requests, tokens and drafts.

Some layers of SmolLM2-135M on the CPU, in few KV blocks. The simulator is told how long each step took, no more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from serving import IMPOSED, NGRAM, PROVEN, Proof

from lapsbench.policies.binding import compiled
from lapsbench.sim.cost import OVERHEAD
from lapsbench.sim.entries import entry
from lapsbench.sim.memory import view_of
from lapsbench.sim.record import Replay
from lapsbench.sim.reference.prices import Prices
from lapsbench.sim.reference.vllm import Vllm
from lapsbench.sim.vllm.step import gone
from lapsbench.store.steps import parse

named = pytest.mark.parametrize("case", IMPOSED, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve every case on the real engine."""
    folder = tmp_path_factory.mktemp("served")
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join(map(str, (tests.parent, tests, tests.parent / "bench")))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONPATH": paths}
    command = [sys.executable, str(Path(__file__).with_name("serving.py")), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def log_of(folder, case):
    path = folder / f"{case.name}.jsonl"
    return parse(path.read_bytes(), str(path))


def composed(log):
    """Return for every step of a log who was in it, with (tokens, cached, drafts, emitted), and who was preempted."""
    steps = [({}, set()) for _ in log.start_s]
    for step, request, *sizes, preempted in log.rows.tolist():
        if sizes[0]:
            steps[step][0][request] = tuple(sizes)
        if preempted:
            steps[step][1].add(request)
    return steps


def first_difference(theirs, ours, log):
    """Say which step is the first that differs, and how."""
    for number, (real, mine) in enumerate(zip(theirs, ours, strict=False)):
        if real != mine:
            rules = log.header["rules_version"]
            return f"step {number} of {len(theirs)}\nvLLM {rules}: {real}\nlapsbench: {mine}"
    return "" if len(theirs) == len(ours) else f"{len(theirs)} steps, and {len(ours)}"


class Measured(Prices):
    """Steps take what they took."""

    def __init__(self, log, *args):
        super().__init__(*args)
        self.durations = iter((log.end_s - log.start_s).tolist())

    def step(self, *_args, **_more):
        return next(self.durations)


class Fed(Vllm):
    """The reference, on the clock of a log."""

    def feed(self, log):
        self.fed, self.log, self.taken_out = log, [], []
        self.prices = Measured(log, self.costs, self.engine)
        return self

    def arrivals(self):
        if self.step < len(self.fed.admit_s):
            self.now_s = float(self.fed.admit_s[self.step])
        return super().arrivals()

    def compose(self):
        before = {job.request: job.preemptions for job in self.live}
        step = super().compose()
        self.taken_out.append({job.request for job in self.live if job.preemptions > before[job.request]})
        return step

    def proven(self):
        self.run()
        sizes = [
            {part.job.request: (part.tokens, part.cached, part.drafts, part.emitted) for part in step.parts}
            for step in self.log
        ]
        return list(zip(sizes, self.taken_out, strict=True))


@njit
def look(sim, emitted, ran):
    """Note of everybody who has arrived what was emitted, the last step they were in, and -1 where they have left."""
    for request in range(sim.next_request):
        if gone(sim, request):
            ran[request] = -1
        else:
            view = view_of(sim, request)
            emitted[request], ran[request] = view.emitted_tokens, view.last_run_step


def compiled_steps(case, log):
    """Return for every step of the compiled kernel how much it emitted for whom, on the clock of a log."""
    work, engine, policy, costs, setup = case.ready()
    run = Replay(work, engine, policy, costs, setup)
    nobody, advance = 0, entry("vllm.step.advance")  # with a fixed k nobody is asked for drafts
    run.owned["step_s"][:] = run.owned["chunk_s"][:] = 0.0
    emitted, ran = np.zeros(len(work), np.int64), np.full(len(work), -2)
    steps = []
    for number, (start_s, end_s) in enumerate(zip(log.admit_s, log.end_s, strict=True)):
        run.sim.now_s = start_s
        run.owned["step_s"][OVERHEAD] = end_s - start_s
        before, gone_before = emitted.copy(), ran == -1
        advance(compiled(policy).address, nobody, run.at, 1)
        look(run.sim, emitted, ran)
        left = (ran == -1) & ~gone_before
        emitted[left] = work.output_tokens[left]
        batch = np.flatnonzero(left | (ran == number))
        steps.append({int(request): int(emitted[request] - before[request]) for request in batch})
    return steps


@named
def test_the_reference_composes_the_same_steps(served, case):
    log = log_of(served, case)
    theirs = composed(log)
    assert not (found := first_difference(theirs, Fed(*case.ready()).feed(log).proven(), log)), found
    PROVEN.append(Proof(case.name, len(theirs), sum(len(out) for _, out in theirs)))


@named
def test_the_compiled_kernel_composes_the_same_steps(served, case):
    log = log_of(served, case)
    theirs = [{request: sizes[-1] for request, sizes in batch.items()} for batch, _ in composed(log)]
    assert not (found := first_difference(theirs, compiled_steps(case, log), log)), found


def test_the_steps_are_worth_comparing(served):
    for case in IMPOSED:
        rows = composed(log_of(served, case))
        assert sum(bool(out) for _, out in rows) > 3, case.name
        sizes = [size for batch, _ in rows for size in batch.values()]
        assert any(tokens > 1 + case.drafts and cached for tokens, cached, _, _ in sizes), f"{case.name}: no chunks"
        assert not case.drafts or len({emitted for *_, drafts, emitted in sizes if drafts}) == 4


@pytest.mark.parametrize("cases", [[case for case in IMPOSED if not case.drafts], NGRAM], ids=["k0", "ngram"])
def test_greedy_text_is_the_same_under_every_policy(served, cases):
    first, *others = [json.loads((served / f"{case.name}.json").read_text()) for case in cases]
    for case, texts in zip(cases[1:], others, strict=True):
        assert [i for i, (one, other) in enumerate(zip(first, texts, strict=True)) if one != other] == [], case.name
