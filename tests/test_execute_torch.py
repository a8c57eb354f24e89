"""`lapsbench execute --engine torch`: a tiny model, served for real by our own decoder."""

from __future__ import annotations

import polars as pl
import pytest

pytest.importorskip("torch", reason="serving on our decoder is an extra: pip install '.[profile]'")

import tiny
from commands import lapsbench

FLAGS = "--engine torch --profile cpu-smollm2-135m-ngram --trace t.csv --rate 40 --max-batch 4 --repeats 1"
LETTERS = '{"prompt": "abc abc abc"}\n{"prompt": "cab"}\n'


@pytest.fixture
def room(tmp_path):
    """Return a folder with a model, a trace and texts."""
    tiny.save(tmp_path / "model")
    sizes = [(5 + 3 * i, 2 + 5 * i % 11) for i in range(10)]
    rows = "".join(f"{i},{prompt},{output}\n" for i, (prompt, output) in enumerate(sizes))
    (tmp_path / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    (tmp_path / "texts.jsonl").write_text(LETTERS)
    return tmp_path


@pytest.mark.parametrize(
    "way",
    [
        "--draft-tokens 0 --prefill-budget 16",
        "--draft ngram:2 --prompts texts.jsonl --clock wall --device cpu",
        "--draft model --on-preempt recompute",
        "--draft model --acceptance imposed --drafts ema",
    ],
)
def test_everybody_is_served_and_every_token_is_in_the_steps(room, way):
    done = lapsbench(f"execute {FLAGS} --target model {way} --policy srpt --out run", room).fine()
    assert "engine: executed on torch 2." in done.out
    requests, steps = (pl.read_parquet(room / "run" / f"{name}.parquet") for name in ("requests", "steps"))
    assert (requests["status"] == "finished").all()
    told = 1 + requests["rounds"] + requests["accepted_tokens"] + requests["resumes"]
    assert (told == requests["output_tokens"]).all()
    assert requests["resumes"].sum() == 0  # completing a recomputation emits nothing by these rules
    joined = requests.join(steps.group_by("policy", "request").agg(pl.col("emitted").sum()), on=["policy", "request"])
    assert (joined["emitted"] == joined["output_tokens"]).all()
    assert lapsbench("report run", room).fine().out == done.out


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ("--target model", 2, "error: --engine torch: drafts, and there is nothing to draft with; try --draft MODEL"),
        ("--target model --draft-tokens 0 --batched-tokens 64", 2, "error: --batched-tokens: is a setting of the vllm"),
        (
            "--target model --draft-tokens 0 --device cuda",
            2,
            "error: --device cuda: there is none here; try",
        ),
        ("--target . --draft-tokens 0", 1, "error: .: the folder has no config.json"),
        ("--target model --draft-tokens 0 --on-preempt swap", 2, "error: --on-preempt swap: our decoder swaps nothing"),
    ],
)
def test_what_cannot_be_served_is_one_line(room, flags, code, said):
    done = lapsbench(f"execute {FLAGS} {flags} --policy fcfs --out run", room)
    assert (done.code, done.err.count("\n")) == (code, 1), done.err
    assert done.err.startswith(said)
