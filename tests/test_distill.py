"""bench/distill.py trains a draft that `lapsbench profile` takes, and that is righter than what it began with."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the profiler is an extra: pip install '.[profile]'")

import tiny
import torch
from commands import lapsbench

from lapsbench.errors import LapsbenchError

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def distill():
    path = Path(__file__).parents[1] / "bench" / "distill.py"
    spec = importlib.util.spec_from_file_location("distill", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_distilled_draft_is_righter_and_can_be_profiled(distill, tmp_path):
    tiny.save(tmp_path / "T")
    small = "--layers 0 --device cpu --chats 8 --length 32 --batch 4 --passes 2 --tokens 12000 --rate 5e-3"
    line = f"--target {tmp_path / 'T'} --out {tmp_path / 'D'} {small}".split()
    found = distill.main(line)
    assert found["agreement"] > found["agreement_before"] + 0.05
    assert json.loads((tmp_path / "D" / "distilled.json").read_text()) == found
    assert distill.main(line) == {}  # one that is there stays
    lapsbench("profile --target T --draft D --device cpu --contexts 16 --out P --dry-run", tmp_path).fine()


def test_embeddings_stay_the_targets_and_the_target_as_it_was(distill, tmp_path):
    target = distill.load_target(tiny.save(tmp_path / "T"), device=torch.device("cpu"), dtype=torch.float32)
    before = {name: weight.clone() for name, weight in target.model.state_dict().items()}
    draft = distill.student(target, [0])
    writer = distill.Writer(target, 4, 16)
    asked = distill._parse(["--target", "T", "--out", "D", "--tokens", "100"])
    distill.train(target.model, draft, writer, asked)
    assert all(torch.equal(before[name], weight) for name, weight in target.model.state_dict().items())
    learned = draft.state_dict()
    assert torch.equal(learned["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(learned[name], before[name])


def test_a_target_that_cannot_chat_is_refused(distill, tmp_path):
    tiny.save(tmp_path / "T", letters=None)
    with pytest.raises(LapsbenchError, match="no chat template"):
        distill.main(
            ["--target", str(tmp_path / "T"), "--layers", "0", "--device", "cpu", "--out", str(tmp_path / "D")]
        )
