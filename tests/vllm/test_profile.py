"""`profile --engine vllm` on the real engine: some layers of SmolLM2-135M, a grid of few points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from layers import first_layers

from lapsbench.store.profile import open_profile

PROMPTS = [{"prompt_id": f"p{place}", "category": "counting", "prompt": "1 2 3 1 2 3 1 2 3 1 2"} for place in range(3)]


def profiled(folder, line, **more):
    """Run the command in a process of its own."""
    paths = os.pathsep.join(map(str, (Path(__file__).parents[2],)))
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-m", "lapsbench", "profile", "--engine", "vllm", *line.split()]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, **more)


LINE = "--target ./model --batches 1,2 --contexts 64 --draft-tokens 2 --dtype float32 --max-new-tokens 12 --out mine"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Measure once."""
    here = tmp_path_factory.mktemp("profiled")
    first_layers(here / "model")
    (here / "prompts.jsonl").write_text("\n".join(map(json.dumps, PROMPTS)))
    done = profiled(here, f"{LINE} --draft ngram:3 --prompts prompts.jsonl")
    assert done.returncode == 0, done.stderr[-3000:]
    return here


def test_every_kind_of_step_has_its_costs(folder):
    costs = open_profile(str(folder / "mine")).costs
    assert set(costs.component) == {"verify", "draft", "prefill", "mixed", "overhead"}
    mixed = costs.component == "mixed"
    assert set(costs.verify_tokens[mixed]) == {1, 3}
    assert set(costs.chunk_context_tokens[mixed]) == {0, 256}
    table = pq.read_table(folder / "mine" / "cost.parquet")
    assert table["verify_tokens"].null_count == len(costs.time_s) - mixed.sum()
    most = costs.time_s[mixed & (costs.query_tokens == 512)].min()
    assert most > costs.time_s[mixed & (costs.query_tokens == 1)].max()


def test_acceptance_is_the_engines_own(folder):
    found = open_profile(str(folder / "mine"))
    assert found.bank.prompt_id.tolist() == ["p0", "p1", "p2"]
    assert found.bank.draft_tokens_max == 2
    assert (found.bank.output_tokens <= 12).all()
    assert (found.bank.drafted >= found.bank.accept_runs).all()
    assert len(set(found.bank.drafted.tolist())) > 1  # now more, now fewer
    assert found.provenance["draft_method"] == "ngram"
    assert found.provenance["acceptance"]["rounds"] <= int(found.bank.output_tokens.sum()) - 3


def test_a_finished_profile_is_not_measured_again_and_another_is_refused(folder):
    again = profiled(folder, f"{LINE} --draft ngram:3 --prompts prompts.jsonl")
    assert (again.returncode, "nothing was measured" in again.stderr) == (0, True)
    other = profiled(folder, f"{LINE} --costs-only")
    assert other.returncode == 1
    assert "differs from what is asked for" in other.stderr.splitlines()[-1]


def test_a_model_that_does_not_load_is_one_line(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "none of them"}')
    done = profiled(tmp_path, LINE)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ./model: cannot be loaded")
    missing = profiled(tmp_path, LINE.replace("./model", "./nowhere"))
    assert missing.returncode == 1
    assert missing.stderr.splitlines()[-1].startswith("error: --target ./nowhere: no such folder")
