"""`lapsbench validate` on vLLM: one engine is measured and serves by turns, and its steps come out of a replay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from layers import first_layers

ROOT = Path(__file__).parents[2]
FLAGS = "--trace t.csv --limit 8 --max-batch 3 --load 0.9 --repeats 2 --policy fcfs --policy las --draft-tokens 0,2"


def validate(folder):
    paths = os.pathsep.join(map(str, (ROOT, *filter(None, [os.environ.get("PYTHONPATH")]))))
    line = [sys.executable, "-m", "lapsbench", "validate", "--target", "model", *FLAGS.split(), "--out", "v"]
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
