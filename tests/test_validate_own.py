"""`lapsbench validate` where models accept by themselves: a first serving records it, and replays have what it had."""

from __future__ import annotations

import json

import polars as pl
import pytest

pytest.importorskip("torch", reason="serving on our decoder is an extra: pip install '.[profile]'")

import tiny
from commands import lapsbench

FLAGS = "validate --target model --max-batch 3 --limit 8 --load 0.9 --repeats 1 --policy srpt --draft-tokens 2"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Return a folder with a model, one that drafts for it, and a trace."""
    folder = tmp_path_factory.mktemp("own")
    tiny.save(folder / "model", num_hidden_layers=2, max_position_embeddings=2048)
    tiny.save(folder / "small", noise=0.02, num_hidden_layers=2, max_position_embeddings=2048)
    rows = "".join(f"{i},{6 + 5 * i % 23},{9 + 4 * i % 17}\n" for i in range(8))
    (folder / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    return folder


@pytest.mark.parametrize("draft", ["ngram:2", "small"])
def test_replays_have_the_acceptance_that_the_same_requests_really_had(room, draft):
    line = f"{FLAGS} --engine torch --trace t.csv --draft {draft} --acceptance own --out v-{draft[:5]}"
    done = lapsbench(f"{line} --quiet", room).fine()
    folder = room / f"v-{draft[:5]}"
    found = json.loads((folder / "validation.json").read_text())
    (cell,) = found["cells"]
    assert cell["proof"]["same"] == cell["proof"]["steps"] > 5
    assert f"{draft}, acceptance own" in done.out
    assert "accepted what they did in the first serving: " in done.out
    sides = [pl.read_parquet(folder / f"k2/{side}/requests.parquet") for side in ("recorded", "executed", "simulated")]
    first, real, replayed = (side.sort("request")["rounds"].to_list() for side in sides)
    assert replayed == first  # request by request
    alike = sum(one == two for one, two in zip(first, real, strict=True)) / len(first)
    assert alike >= cell["as_recorded"] > 0.5
    assert sum(side["accepted_tokens"].sum() for side in sides) > 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--engine torch --acceptance own",
            "error: --acceptance own: takes something that drafts; try --draft ngram:4",
        ),
        ("--engine torch --draft ngram:2 --acceptance mine", "error: --acceptance: there is no 'mine'; try one of:"),
    ],
)
def test_bad_input_is_one_line(room, flags, said):
    done = lapsbench(f"{FLAGS} --trace t.csv {flags} --out w --quiet", room)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert done.err.startswith(said)
