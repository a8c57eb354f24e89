"""`lapsbench validate` on a tiny model: the engine is measured, serves, is replayed, and the same steps come out."""

from __future__ import annotations

import json
import shutil

import polars as pl
import pytest

pytest.importorskip("torch", reason="serving on our decoder is an extra: pip install '.[profile]'")

import tiny
from commands import lapsbench

FLAGS = "validate --engine torch --target model --max-batch 3 --limit 8 --load 0.9 --repeats 1 --policy srpt"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Return a folder with a model, a trace, and what validating it came to."""
    folder = tmp_path_factory.mktemp("validated")
    tiny.save(folder / "model", num_hidden_layers=2, max_position_embeddings=2048)
    rows = "".join(f"{i},{6 + 5 * i % 23},{3 + 4 * i % 11}\n" for i in range(8))
    (folder / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    done = lapsbench(f"{FLAGS} --trace t.csv --draft ngram:2 --draft-tokens 0,2 --out v --quiet", folder).fine()
    return folder, done


def test_every_step_is_composed_alike_with_and_without_drafts(room):
    folder, done = room
    found = json.loads((folder / "v/validation.json").read_text())
    proofs = [(cell["draft_tokens"], cell["proof"]["same"], cell["proof"]["steps"]) for cell in found["cells"]]
    assert len(proofs) == 2
    assert {drafts for drafts, _, _ in proofs} == {0, 2}
    assert all(same == steps > 5 for _, same, steps in proofs)
    assert "Steps composed alike" in done.out


def test_errors_are_of_the_runs_that_lie_beside_them(room):
    folder, _ = room
    table = pl.read_parquet(folder / "v/figures.parquet").filter(pl.col("metric") == "jct_mean_s")
    for row in table.iter_rows(named=True):
        means = []
        for side in ("executed", "simulated"):
            cells = pl.read_parquet(folder / f"v/k{row['draft_tokens']}/{side}/requests.parquet")
            mine = cells.filter(pl.col("policy") == row["policy"])
            means.append(mine.select((pl.col("finished_s") - pl.col("arrival_s")).mean()).item())
        assert row["executed"] == pytest.approx(means[0])
        assert row["error"] == pytest.approx(means[1] / means[0] - 1)


def test_the_same_command_goes_on_from_what_is_there(room):
    folder, done = room
    again = lapsbench(f"{FLAGS} --trace t.csv --draft ngram:2 --draft-tokens 0,2 --out v", folder).fine()
    assert again.out == done.out
    assert "measuring" not in again.err


def test_a_report_says_it_again(room):
    folder, done = room
    assert lapsbench("report v", folder).fine().out == done.out
    shown = lapsbench("report v --markdown -", folder).fine().out
    rows = [line for line in shown.splitlines() if line.startswith("| 2 | 0.9 | srpt | ")]
    assert rows[0].count("|") == 14
    assert "| p99 of JCT | " in shown


def test_it_fits_a_terminal(room):
    _, done = room
    assert max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("content", "flags", "code", "said"),
    [
        ("{", "v", 1, "is damaged"),
        ('{"schema": "lapsbench.validation/1"}', "v", 1, "is not a validation of this version"),
        ("{}", "v --html page.html", 2, "error: --html: is for runs"),
        ("{}", "v w", 2, "error: v: is a validation, which is reported alone"),
    ],
)
def test_what_cannot_be_reported_is_one_line(tmp_path, content, flags, code, said):
    (tmp_path / "v").mkdir()
    (tmp_path / "v/validation.json").write_text(content)
    done = lapsbench(f"report {flags}", tmp_path)
    assert (done.code, done.err.count("\n")) == (code, 1), done.err
    assert said in done.err


def test_more_repeats_are_priced_by_all_walks(room):
    folder, _ = room
    shutil.copytree(folder / "v", folder / "more")
    before = (folder / "more/k2/prices/cost.parquet").read_bytes()
    flags = FLAGS.replace("--repeats 1", "--repeats 2")
    lapsbench(f"{flags} --trace t.csv --draft ngram:2 --draft-tokens 2 --out more --quiet", folder).fine()
    found = json.loads((folder / "more/validation.json").read_text())
    assert [cell["seed"] for cell in found["cells"]] == [0, 1]
    assert (folder / "more/k2/prices/cost.parquet").read_bytes() != before
    tails = [row for row in found["figures"] if row["metric"] == "jct_p99_s"]
    assert all(0 <= row["half_interval"] < 1 for row in tails)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ("--out v --trace t.csv --max-batch 2", 1, "holds what was measured for another command"),
        ("--out model", 1, "error: --out model: holds files that are no validation's"),
        ("--out w --draft-tokens 3", 2, "error: --engine torch: drafts, and there is nothing to draft with"),
        (
            "--out w --draft-tokens many",
            2,
            "error: --draft-tokens: 'many' is not a list of whole numbers from 0; try --draft-tokens 0,1,3",
        ),
        ("--out w --policy nobody", 2, "error: --policy: unknown policy 'nobody'"),
    ],
)
def test_bad_input_is_one_line(room, flags, code, said):
    folder, _ = room
    done = lapsbench(f"{FLAGS} {flags} --quiet", folder)
    assert (done.code, done.err.count("\n")) == (code, 1), done.err
    assert said in done.err
