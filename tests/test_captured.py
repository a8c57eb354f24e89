"""Serving with captured steps: what a GPU does, with a stand-in for its graphs that has one place for every result."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="our decoder is an extra: pip install '.[profile]'")

import tiny
import torch

from lapsbench.core import Engine, Trace
from lapsbench.decoding import decoder as decoders
from lapsbench.decoding.graphs import Runner
from lapsbench.decoding.network import Chunk, Network
from lapsbench.decoding.prompts import SIZES, take_in
from lapsbench.policies.predictors import parse_predictor
from lapsbench.policies.registry import find
from lapsbench.serving.torch import TorchServing, load, serve
from lapsbench.sim.alone import solo
from lapsbench.sim.cost import step_costs
from lapsbench.sim.prepare import workload
from lapsbench.sim.setup import set_up
from lapsbench.store.profile import open_profile

torch.set_num_threads(1)
CPU = torch.device("cpu")


def put(kept, made):
    """Write what a step made where its first result lies, as a replayed graph does."""
    if isinstance(kept, torch.Tensor):
        kept.copy_(made)
    elif is_dataclass(kept):
        for name in (each.name for each in fields(kept)):
            put(getattr(kept, name), getattr(made, name))


class Graphs(Runner):
    """Captures on a CPU: a shape has one function, one set of inputs, one result."""

    def __init__(self, device, *, eager=False):
        super().__init__(device, eager=eager)
        self.captures = not eager
        self.made = {}

    def call(self, step, shape, function, *inputs):
        if not self.captures:
            return function(*inputs)
        if (step, shape) not in self.made:
            static = tuple(each.clone() for each in inputs)
            self.made[step, shape] = function, static, function(*static)
        function, static, result = self.made[step, shape]
        for mine, given in zip(static, inputs, strict=True):
            assert mine.shape == given.shape, step
            mine.copy_(given)
        put(result, function(*static))
        return result


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("model"), num_hidden_layers=2, max_position_embeddings=512)


def ready(policy, *, requests=12):
    """Return a workload whose prompts take several steps, and whose rows stand beside long ones."""
    draw = np.random.default_rng(3)
    lengths = draw.integers(2, 200, requests).astype(np.int32), draw.integers(2, 12, requests).astype(np.int32)
    profile = open_profile("cpu-smollm2-135m-int4")
    engine = Engine(max_batch=4, draft_tokens=3, prefill_budget=90)
    costs = step_costs(profile, engine)
    work = workload(Trace("made up", np.zeros(requests), *lengths), profile, engine, parse_predictor("oracle"), 0)
    work = replace(work, arrival_s=np.sort(draw.uniform(0, 0.05, requests)))
    work, setup = set_up(work, engine, find(policy), solo(work, engine, costs), None)
    return work, setup, engine, costs


@pytest.mark.parametrize(
    ("policy", "draft"), [("fcfs", "self:drop=1"), ("srpt", "self:drop=1"), ("srpt", "ngram:3"), ("fcfs", None)]
)
def test_captured_steps_say_what_plain_ones_say(policy, draft, model, tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "Runner", Graphs)
    work, setup, engine, costs = ready(policy)
    engine = engine if draft else replace(engine, draft_tokens=0)
    said = {}
    for eager in (False, True):
        log = tmp_path / f"{eager}.jsonl"
        serving = TorchServing(model, draft, engine, find(policy), costs, log, imposed=False, eager=eager)
        said[eager] = serve(work, setup, serving, load(work, serving))
    assert said[False] == said[True]
    assert [len(said[True][request]) for request in range(len(work))] == work.output_tokens.tolist()


def test_a_prompt_is_taken_in_by_few_graphs_whatever_its_length():
    whole, apart = (Network(tiny.model(max_position_embeddings=2048), slots=2, room=1200) for _ in range(2))
    runner = Graphs(CPU)
    draw = torch.Generator().manual_seed(0)
    for new, cached in ((1, 0), (15, 1), (16, 16), (130, 0), (600, 130), (1100, 0), (470, 730)):
        tokens = torch.randint(0, 60, (new,), generator=draw)
        expected = whole.prefill(1, tokens, cached)
        torch.testing.assert_close(take_in(apart, Chunk(1, tokens, cached), runner), expected, atol=1e-4, rtol=1e-4)
        ours, theirs = (each.cache.states[:, :, 1, :, : cached + new] for each in (whole, apart))
        torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
        assert not apart.cache.states[:, :, 0].any()  # nobody else's slot is touched
    assert len(runner.made) <= 2 * len(SIZES)


def test_graphs_are_made_before_anybody_is_served(model, tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "Runner", Graphs)
    work, setup, engine, costs = ready("fcfs")
    serving = TorchServing(model, "self:drop=1", engine, find("fcfs"), costs, tmp_path / "log.jsonl", imposed=False)
    models = load(work, serving)
    before = set(models.executor.decoder.runner.made)
    serve(work, setup, serving, models)
    assert set(models.executor.decoder.runner.made) == before
