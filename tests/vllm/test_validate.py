"""`lapsbench validate` on vLLM: one engine is measured and serves by turns, and its steps come out of a replay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
from layers import first_layers

ROOT = Path(__file__).parents[2]
FLAGS = "--trace t.csv --limit 8 --max-batch 3 --load 0.9 --policy fcfs --policy las"


def validate(folder, more="--repeats 2 --draft-tokens 0,2"):
    paths = os.pathsep.join(map(str, (ROOT, *filter(None, [os.environ.get("PYTHONPATH")]))))
    flags = f"validate --target model {FLAGS} {more} --out v"
    line = [sys.executable, "-m", "lapsbench", *flags.split()]
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_step_is_composed_alike_whoever_was_served_before_by_the_same_engine(tmp_path):
    first_layers(tmp_path / "model")
    rows = "".join(f"{i},{6 + 5 * i % 23},{3 + 4 * i % 11}\n" for i in range(8))
    (tmp_path / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    done = validate(tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "v/validation.json").read_text())
    assert len(found["cells"]) == 8
    for cell in found["cells"]:
        assert cell["proof"]["same"] == cell["proof"]["steps"] > 5, cell
    again = validate(tmp_path)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "starting the engine" not in again.stderr


def test_ngram_drafts_by_itself_and_every_step_is_composed_by_what_it_found(tmp_path):
    first_layers(tmp_path / "model")
    rows = "".join(f"{i},{12 + 9 * i % 23},{20 + 7 * i % 31}\n" for i in range(8))
    (tmp_path / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    done = validate(tmp_path, "--repeats 1 --draft-tokens 3 --draft ngram:3")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "v/validation.json").read_text())
    assert [cell["policy"] for cell in found["cells"]] == ["fcfs", "las"]
    for cell in found["cells"]:
        assert cell["proof"]["same"] == cell["proof"]["steps"] > 5, cell
        assert cell["as_recorded"] > 0
    steps = pl.read_parquet(tmp_path / "v/k3/executed/steps.parquet").filter(pl.col("emitted") > 0)
    assert steps["drafts"].n_unique() > 1
    runs = (tmp_path / "v/k3" / name / "requests.parquet" for name in ("recorded", "simulated"))
    first, replayed = map(pl.read_parquet, runs)
    alike = first.join(replayed.filter(pl.col("policy") == "fcfs"), on="request", suffix="_replayed")
    assert (alike["rounds"] == alike["rounds_replayed"]).all()


def test_a_draft_model_drafts_and_is_part_of_what_steps_are_priced(tmp_path):
    first_layers(tmp_path / "model")
    first_layers(tmp_path / "small", 1)
    rows = "".join(f"{i},{12 + 9 * i % 23},{20 + 7 * i % 31}\n" for i in range(8))
    (tmp_path / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    done = validate(tmp_path, "--repeats 1 --draft-tokens 3 --draft small")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "v/validation.json").read_text())
    for cell in found["cells"]:
        assert cell["proof"]["same"] == cell["proof"]["steps"] > 5, cell
    costs = pl.read_parquet(tmp_path / "v/k3/prices/cost.parquet")
    assert costs.filter(pl.col("component") == "draft")["time_s"].min() > 1e-4
