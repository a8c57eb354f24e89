"""Our decoder serves: every text is the model's own, every step is the simulator's, and the log says what was done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

pytest.importorskip("torch", reason="serving on our decoder is an extra: pip install '.[profile]'")

import tiny
import torch
from strategies import CALIBRATION, constant

from lapsbench.core import Engine, Workload
from lapsbench.decoding import network as networks
from lapsbench.decoding.network import Chunk, Network
from lapsbench.errors import UsageError
from lapsbench.policies.predictors import length_class
from lapsbench.policies.registry import find
from lapsbench.serving.prompts import drawn
from lapsbench.serving.torch import TorchServing, load, serve
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import step_costs
from lapsbench.sim.reference.common import accepted
from lapsbench.sim.reference.ideal import Ideal
from lapsbench.sim.reference.prices import Prices
from lapsbench.sim.setup import set_up
from lapsbench.store.steps import parse

REQUESTS, VOCABULARY = 24, 60


@dataclass(frozen=True)
class Case:
    """One run of the decoder."""

    policy: str
    on_preempt: str = "keep"
    draft: str | None = None
    imposed: bool = False
    kv_tokens: int = 0
    prefill_budget: int = 24

    @property
    def name(self):
        return "-".join(str(each) for each in (self.policy, self.on_preempt, self.draft, self.imposed, self.kv_tokens))

    @property
    def engine(self):
        return Engine(
            max_batch=4,
            draft_tokens=3 if self.draft else 0,
            prefill_budget=self.prefill_budget,
            kv_tokens=self.kv_tokens,
            on_preempt=self.on_preempt,
        )

    def ready(self):
        """Return what a replay takes; prices are there only for times a policy is told beforehand."""
        engine, policy, work = self.engine, find(self.policy), workload()
        costs = step_costs(constant(0.02, draft=0.001), engine)
        work, setup = set_up(work, engine, policy, solo(work, engine, costs), CALIBRATION)
        return work, engine, policy, costs, setup


CASES = [
    Case("fcfs"),
    Case("srpt"),
    Case("srpt", "recompute"),
    Case("srpt", "keep", kv_tokens=160),
    Case("srpt", "keep", "self:layers=0"),
    Case("srpt", "recompute", "self:layers=0"),
    Case("laps-sd", "keep", "ngram:3"),
    Case("srpt", "recompute", "ngram:3", kv_tokens=160),
    Case("fcfs", "keep", "self:layers=0", prefill_budget=0),
    Case("srpt", "keep", "self:layers=0", imposed=True),
    Case("laps-sd", "recompute", "ngram:3", imposed=True),
]
named = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def workload():
    """Make prompts of 2 to 60 tokens, outputs of 1 to 40, a mean of about one accepted draft, wrong predictions."""
    draw, n = np.random.default_rng(3), REQUESTS
    arrival_s = np.cumsum(draw.exponential(1 / 200, n))  # faster than any CPU serves them
    prompt = np.clip(draw.lognormal(2.9, 0.8, n), 2, 60).astype(np.int32)
    output = np.clip(draw.lognormal(2.3, 0.9, n), 1, 40).astype(np.int32)
    runs = [np.minimum(draw.geometric(0.5, size) - 1, 3) for size in output]
    predicted = output * draw.choice([0.5, 1.0, 2.0], n)
    return Workload(
        arrival_s=arrival_s - arrival_s[0],
        prompt_tokens=prompt,
        output_tokens=output,
        predicted_tokens=predicted,
        predicted_class=length_class(predicted),
        client=np.zeros(n, np.int32),
        clients=1,
        recording_start=(np.cumsum(output) - output).astype(np.int64),
        recording_tokens=output.copy(),
        recording_shift=np.zeros(n, np.int32),
        accept_runs=np.concatenate(runs).astype(np.uint8),
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("model"), num_hidden_layers=2, vocabulary=VOCABULARY)


@pytest.fixture(scope="module")
def served(tmp_path_factory, model):
    """Return texts and step log of a case."""
    folder = tmp_path_factory.mktemp("served")

    @cache
    def run(case):
        work, engine, policy, costs, setup = case.ready()
        log = folder / f"{case.name.replace(':', '')}.jsonl"
        texts = serve(work, setup, TorchServing(model, case.draft, engine, policy, costs, log, imposed=case.imposed))
        return texts, parse(log.read_bytes(), str(log))

    return run


@pytest.fixture(scope="module")
def alone():
    """Return what the model says to each prompt by itself, everything computed anew for every token."""
    work, said = workload(), {}
    model = tiny.model(num_hidden_layers=2, vocabulary=VOCABULARY)
    for request, prompt in enumerate(drawn(work, VOCABULARY)):
        tokens = list(prompt)
        for _ in range(work.output_tokens[request]):
            with torch.no_grad():
                tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
        said[request] = tokens[len(prompt) :]
    return said


@pytest.mark.parametrize("case", [case for case in CASES if not case.imposed], ids=lambda case: case.name)
def test_every_text_is_what_the_model_says_to_that_prompt_alone(served, alone, case):
    texts, _ = served(case)
    assert [request for request in alone if texts[request] != alone[request]] == []


class Fed(Ideal):
    """The reference, told when each step was composed, how long it took, and what was emitted; no more."""

    def feed(self, log):
        self.fed, self.steps = log, []
        self.prices = Measured(log, self.costs, self.engine)
        emitted = zip(*(log.column(name).tolist() for name in ("step", "request", "emitted")), strict=True)
        self.emitted = {(step, request): tokens for step, request, tokens in emitted}
        return self

    def arrivals(self):
        if self.step < len(self.fed.admit_s):
            self.now_s = float(self.fed.admit_s[self.step])
        return super().arrivals()

    def advance(self, step, dt):
        sizes = {
            job.request: (1 + drafts, job.context_tokens - 1, drafts)
            for job, drafts in zip(step.decoding, step.drafts, strict=True)
        }
        sizes |= {job.request: (tokens, job.cached_tokens, 0) for job, tokens in step.chunks}
        self.steps.append((sizes, {job.request for job in self.live if job.preemptions > self.before[job.request]}))
        super().advance(step, dt)

    def take_step(self):
        self.before = {job.request: job.preemptions for job in self.live}
        super().take_step()


class Told(Fed):
    """The same, where the target had its own word."""

    def accepted(self, job, _drafts):
        return self.emitted[self.step, job.request] - 1


class Measured(Prices):
    """Steps take what they took."""

    def __init__(self, log, *args):
        super().__init__(*args)
        self.durations = iter((log.end_s - log.start_s).tolist())

    def step(self, *_args, **_more):
        return next(self.durations)


def composed(log):
    """Return for every step who was in it, with (tokens, cached, drafts), and who was preempted."""
    steps = [({}, set()) for _ in log.start_s]
    for step, request, *sizes, _, preempted in log.rows.tolist():
        if sizes[0]:
            steps[step][0][request] = tuple(sizes)
        if preempted:
            steps[step][1].add(request)
    return steps


@named
def test_the_simulator_composes_the_same_steps(served, case):
    _, log = served(case)
    twin = (Fed if case.imposed else Told)(*case.ready()).feed(log)
    twin.run()
    differing = [n for n, (ours, theirs) in enumerate(zip(twin.steps, composed(log), strict=True)) if ours != theirs]
    assert differing == []


@named
def test_everybody_is_served_what_was_asked_and_the_log_says_so(served, case):
    texts, log = served(case)
    work = workload()
    assert [len(texts[request]) for request in range(REQUESTS)] == work.output_tokens.tolist()
    assert log.emitted.tolist() == work.output_tokens.tolist()
    assert {gone.status for gone in log.departures.values()} == {"finished"}
    assert [arrival.arrival_s for arrival in log.arrivals] == pytest.approx(work.arrival_s)
    assert (log.start_s[1:] >= log.end_s[:-1]).all()


@pytest.mark.parametrize("case", [case for case in CASES if case.imposed], ids=lambda case: case.name)
def test_imposed_acceptance_is_what_was_recorded(served, case):
    _, log = served(case)
    work = workload()
    done = np.zeros(REQUESTS, int)
    for _, request, _, _, drafts, emitted, _ in log.rows.tolist():
        if drafts:
            left = work.output_tokens[request] - done[request]
            assert emitted == min(accepted(work, request, int(done[request])) + 1, left)
        done[request] += emitted


def test_the_steps_are_worth_comparing(served):
    preempted = dict.fromkeys(("keep", "recompute"), 0)  # how many in a case depends on how fast it was served
    for case in CASES:
        preempted[case.on_preempt] += int(served(case)[1].column("preempted").sum())
    assert min(preempted.values()) > 3, preempted
    sizes = [size for case in CASES for batch, _ in composed(served(case)[1]) for size in batch.values()]
    assert any(tokens > 1 and cached for tokens, cached, drafts in sizes if not drafts), "no chunks"


def test_swapping_is_refused_in_one_line(tmp_path, model):
    work, engine, policy, costs, setup = Case("srpt", "swap").ready()
    with pytest.raises(UsageError, match="swaps nothing"):
        serve(work, setup, TorchServing(model, None, engine, policy, costs, tmp_path / "log.jsonl"))


def test_models_once_loaded_serve_again(tmp_path, model, alone):
    work, engine, policy, costs, setup = Case("srpt").ready()
    serving = TorchServing(model, None, engine, policy, costs, tmp_path / "log.jsonl", imposed=False)
    models = load(work, serving)
    assert [serve(work, setup, serving, models) for _ in range(2)] == [alone, alone]


def test_who_is_too_long_for_the_model_is_refused_and_the_others_are_served(tmp_path, model):
    work, engine, policy, costs, setup = Case("fcfs").ready()
    prompts = work.prompt_tokens.copy()
    prompts[5] = 250  # of 256 positions
    work = replace(work, prompt_tokens=prompts)
    texts = serve(work, setup, TorchServing(model, None, engine, policy, costs, tmp_path / "log.jsonl"))
    log = parse((tmp_path / "log.jsonl").read_bytes(), "log")
    assert [request for request, left in log.departures.items() if left.status == "rejected"] == [5]
    assert sorted(texts) == [request for request in range(REQUESTS) if request != 5]


def test_rounds_and_chunks_in_one_pass_say_what_they_say_in_passes_of_their_own(monkeypatch):
    monkeypatch.setattr(networks, "PREFILL_CHUNK", 16)  # so that a chunk takes several passes
    draw = torch.Generator().manual_seed(1)
    together, apart = (Network(tiny.model(), slots=4, room=128) for _ in range(2))
    prompts = [torch.randint(VOCABULARY, (tokens,), generator=draw) for tokens in (30, 7, 40, 20)]
    for network in (together, apart):
        for row in (0, 1):
            network.prefill(row, prompts[row])
        network.prefill(3, prompts[3][:9])
    rounds, lengths = torch.randint(VOCABULARY, (2, 3), generator=draw), torch.tensor([30, 7])
    chunks = [Chunk(2, prompts[2], 0), Chunk(3, prompts[3][9:], 9)]
    for keep in (0, 1):
        said, ends = together.mixed(rounds, lengths, chunks, span=64, keep=keep)
        torch.testing.assert_close(said, apart.forward(rounds, lengths, span=64, keep=keep), atol=1e-4, rtol=1e-4)
        own = torch.stack([apart.prefill(chunk.row, chunk.tokens, chunk.cached) for chunk in chunks])
        torch.testing.assert_close(ends, own, atol=1e-4, rtol=1e-4)
