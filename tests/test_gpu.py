"""bench/gpu.py: steps end in time, keep what they have, and do not stop one another; the model it carries is one."""

from __future__ import annotations

import importlib.util
import json
import sys
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the profiler is an extra: pip install 'lapsbench[profile]'")

import tiny
import torch
from commands import lapsbench
from safetensors.torch import load_file

BENCH = Path(__file__).parents[1] / "bench"
SMALL = "--device cpu --batches 1 --contexts 16 --draft-tokens 1"
LONG = "--device cpu --batches 1,2,4,8,16,32 --contexts 16,32,64,128,256,512 --draft-tokens 4"  # minutes on any CPU
COSTS = "profile --out {out} --target {model} --draft self:layers=0 --costs-only"


def script(name):
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    return script("gpu")


def test_the_steps_fit_one_command_of_ten_minutes(gpu):
    assert gpu.TOTAL_S <= 9 * 60
    assert sum(step.seconds for step in gpu.STEPS) <= gpu.TOTAL_S
    assert gpu.STEPS[0].name.startswith("llama3.1-8b")


def test_a_step_that_takes_too_long_is_stopped_and_closed_and_the_others_run(gpu, monkeypatch, tmp_path):
    long = gpu.Step("long", 15, f"{COSTS} {LONG}", "")
    wrong = gpu.Step("wrong", 60, f"{COSTS} --seed -1", "")
    short = gpu.Step("short", 60, f"{COSTS} {SMALL}", "--budget-s 1")
    monkeypatch.setattr(gpu, "STEPS", (long, wrong, short))
    kept, keep = [], gpu.Gpu.keep
    monkeypatch.setattr(
        gpu.Gpu, "keep", lambda self, found: (kept.append([each.state for each in found]), keep(self, found))
    )
    assert gpu.main(["--tiny"]) == 1  # a step has failed
    assert kept == [
        ["not begun"] * 3,
        ["stopped", "not begun", "not begun"],
        ["stopped", "failed", "not begun"],
        ["stopped", "failed", "finished"],
        ["finished", "failed", "finished"],
    ]
    steps = json.loads((tmp_path / "out" / "summary.json").read_text())["steps"]
    assert [each["kept"] for each in steps] == ["a whole profile", "0 points, 0 recordings", "a whole profile"]
    assert "--seed" in steps[1]["said"]
    with tarfile.open(tmp_path / "out" / "profiles.tar.gz") as archive:
        archive.extractall(tmp_path / "back", filter="data")
    lapsbench("profiles describe back/profiles/cpu-long", tmp_path).fine()
    assert len(list((tmp_path / "out").iterdir())) <= 8  # no more come back from a machine that is lent


def test_an_unknown_step_is_refused_with_the_names_there_are(gpu, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--steps", "cost"])
    assert "llama3.1-8b-1b" in capsys.readouterr().err


def test_a_packed_model_comes_back_within_half_a_step_and_can_be_profiled(tmp_path):
    rounded = script("rounded")
    tiny.save(tmp_path / "T", hidden_size=64, intermediate_size=128)
    rounded.main(["pack", str(tmp_path / "T"), str(tmp_path / "packed.zip")])
    rounded.main(["unpack", str(tmp_path / "packed.zip"), str(tmp_path / "R")])
    before, after = (load_file(tmp_path / folder / "model.safetensors") for folder in "TR")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        step = rounded.STEP * weight.square().mean().sqrt() if weight.ndim > 1 else torch.tensor(0.0)
        assert (weight - after[name].float()).abs().max() <= step / 2 + weight.abs().max() / 128  # and bfloat16's own
    packed = (tmp_path / "packed.zip").stat().st_size - (tmp_path / "R" / "tokenizer.json").stat().st_size
    assert packed < sum(weight.numel() for weight in before.values())  # under 8 bits a weight, however small
    lapsbench(f"profile --target R --draft self:int4 {SMALL} --out P --dry-run", tmp_path).fine()
