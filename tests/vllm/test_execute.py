"""`lapsbench execute` on the real engine: some layers of SmolLM2-135M on the CPU, some requests, every way to serve."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from layers import first_layers

REQUESTS = 12
FLAGS = f"--profile cpu-smollm2-135m-ngram --trace t.csv --limit {REQUESTS} --rate 5 --max-batch 4 --repeats 1 --quiet"
NAN = 'def odd(job, system):\n    return float("nan") if job.emitted_tokens > 2 else job.arrival_s\n'
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Return a folder with a model, a damaged copy of it, a trace, texts and a policy that goes wrong."""
    folder = tmp_path_factory.mktemp("executed")
    first_layers(folder / "model")
    shutil.copytree(folder / "model", folder / "damaged")
    with (folder / "damaged/model.safetensors").open("r+b") as weights:
        weights.truncate(3_000_000)
    sizes = [(20 + 13 * i, 3 + 5 * i % 17) for i in range(REQUESTS)]
    rows = "".join(f"{i / 5},{prompt},{output}\n" for i, (prompt, output) in enumerate(sizes))
    (folder / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    (folder / "texts.jsonl").write_text('{"prompt": "Why is it dark at night?"}\n{"prompt": "Who asks?"}\n')
    (folder / "odd.py").write_text(NAN)
    return folder


def execute(flags, room, target="model"):
    paths = os.pathsep.join(map(str, (ROOT, *filter(None, [os.environ.get("PYTHONPATH")]))))
    line = [sys.executable, "-m", "lapsbench", "execute", "--target", target, *FLAGS.split(), *flags.split()]
    return subprocess.run(
        line, cwd=room, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )


WAYS = {
    "plain": "--policy srpt --draft-tokens 0",
    "imposed": "--policy fcfs --policy laps-sd --draft-tokens 3",
    "ngram": "--policy fcfs --acceptance own --prompts texts.jsonl",
    "draft": "--policy fcfs --draft model --clock wall",
    "keep": "--policy las --on-preempt keep --draft-tokens 0 --kv-tokens 512 --block-tokens 32",
}


@pytest.mark.parametrize("way", WAYS)
def test_everybody_is_served_and_every_token_is_in_the_steps(room, way):
    done = execute(f"{WAYS[way]} --out {way}", room)
    assert done.returncode == 0, done.stderr
    assert "engine: executed on vllm 0.32.0, model" in done.stdout
    requests, steps = (pl.read_parquet(room / way / f"{name}.parquet") for name in ("requests", "steps"))
    assert (requests["status"] == "finished").all()
    told = 1 + requests["rounds"] + requests["accepted_tokens"] + requests["resumes"]
    assert (told == requests["output_tokens"]).all()
    emitted = steps.group_by("policy", "request").agg(pl.col("emitted").sum())
    joined = requests.join(emitted, on=["policy", "request"])
    assert len(joined) == len(requests)
    assert (joined["emitted"] == joined["output_tokens"]).all()
    assert (requests["first_token_s"] > requests["admitted_s"]).all()
    if way == "draft":  # it drafts what the target says
        assert requests["accepted_tokens"].sum() > requests["rounds"].sum()


@pytest.mark.parametrize(
    ("flags", "target", "said"),
    [
        ("--policy fcfs --policy odd.py:odd", "model", "error: policy 'odd': returned NaN; try guarding divisions"),
        ("--policy fcfs", "damaged", "error: the engine: SafetensorError: "),
        ("--policy fcfs", "nowhere/at/all", "error: --target nowhere/at/all: no such folder"),
        ("--policy fcfs --scheduling async", "model", "error: the engine: Currently, async"),
        ("--policy fcfs --block-tokens 7", "model", "error: the engine: "),
    ],
)
def test_what_goes_wrong_is_one_line(room, tmp_path, flags, target, said):
    done = execute(f"{flags} --out {tmp_path / 'run'}", room, target)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith(said), done.stderr
    assert done.stderr.count("\n") == 1
    kept = list((tmp_path / "run/cells").glob("*.steps.parquet"))
    assert len(kept) == ("odd" in flags)


def test_a_request_that_does_not_fit_is_rejected(room):
    done = execute("--policy fcfs --draft-tokens 0 --max-model-len 100 --out short", room)
    assert done.returncode == 0, done.stderr
    requests = pl.read_parquet(room / "short/requests.parquet")
    fits = requests["prompt_tokens"] + requests["output_tokens"] <= 100
    assert (fits == (requests["status"] == "finished")).all()
    assert requests.filter(~fits)["status"].unique().to_list() == ["rejected"]


def replayed(flags, room):
    """Replay in the same environment."""
    line = [sys.executable, "-m", "lapsbench", "replay", *flags.split(), "--quiet"]
    paths = os.pathsep.join(map(str, (ROOT, *filter(None, [os.environ.get("PYTHONPATH")]))))
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(line, cwd=room, env=environment, capture_output=True, text=True, check=False)


def test_ngram_finds_now_more_now_fewer_and_a_replay_has_what_it_found(room):
    own = "--acceptance own --draft ngram:3 --prompts texts.jsonl --policy fcfs --draft-tokens 3"
    done = execute(f"{own} --out found", room)
    assert done.returncode == 0, done.stderr
    steps = pl.read_parquet(room / "found/steps.parquet").filter(pl.col("emitted") > 0)
    assert set(steps["drafts"].unique()) >= {0, 3}
    printed = execute(f"{own} --print-config", room)
    assert printed.returncode == 0, printed.stderr
    (room / "same.toml").write_text(printed.stdout)
    again = replayed("same.toml --acceptance found --out again", room)
    assert again.returncode == 0, again.stderr
    assert "up to 3 draft tokens (recorded)" in " ".join(again.stdout.split())
    real, simulated = (pl.read_parquet(room / name / "requests.parquet").sort("request") for name in ("found", "again"))
    assert real["rounds"].to_list() == simulated["rounds"].to_list()
    assert real["accepted_tokens"].to_list() == simulated["accepted_tokens"].to_list()
    other = replayed(f"same.toml --acceptance found --limit {REQUESTS - 1} --out other", room)
    assert other.stderr.startswith("error: --acceptance found: is a run of other requests than this trace's")


@pytest.mark.parametrize("way", ["--acceptance imposed", "--acceptance own --draft model"])
def test_drafts_go_by_vllms_own_schedule(room, way):
    out = f"schedule-{way[-5:]}"
    done = execute(f"{way} --policy fcfs --draft-tokens 1-2:3,3-:1 --rate 20 --out {out}", room)
    assert done.returncode == 0, done.stderr
    steps = pl.read_parquet(room / out / "steps.parquet").filter(pl.col("tokens") > 0)
    sizes = steps.group_by("step").agg(pl.len().alias("size"), pl.col("drafts").max()).sort("step")
    said = sizes.with_columns(before=pl.col("size").shift(1), gap=pl.col("step").diff())
    told = said.filter((pl.col("drafts") > 0) & (pl.col("gap") == 1))
    most = pl.when(pl.col("before") <= 2).then(3).otherwise(1)
    assert len(told) > 5
    assert told.filter(pl.col("drafts") > most).is_empty()
    assert set(told["drafts"]) == {1, 3}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--drafts goodput",
            "error: --drafts goodput: asks a controller, and vLLM itself has none; try",
        ),
        ("--draft-tokens 1-9@0-99:3,1-9@100-:1", "error: --draft-tokens: vLLM's own schedule has no bands of context"),
        ("--device cpu", "error: --device: belongs to --engine torch; try"),
        ("--draft ngram:x", "error: --draft ngram:x: 'x' is no number of tokens; try ngram:4"),
    ],
)
def test_what_vllm_cannot_do_is_one_line(room, tmp_path, flags, said):
    done = execute(f"--policy fcfs {flags} --out {tmp_path / 'run'}", room)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(said)
