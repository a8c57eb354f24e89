"""Drafts a step on the command line: schedules, vLLM's own, controllers; and what is wrong with one, in one line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import polars as pl
import pytest
from commands import lapsbench

from lapsbench.schedules import dense, parsed, written

SMALL = "replay --limit 150 --repeats 1 --max-batch 16 --rate 8 --policy fcfs --policy srpt -q"
CONTROLLERS = Path(__file__).with_name("controllers.py")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--draft-tokens 1-8:7,5-:3", "--draft-tokens: 5- overlaps 1-8; try ranges that do not share a batch size"),
        ("--draft-tokens 3-8:7", "--draft-tokens: begins with batches of 3, so nothing says what smaller ones draft; "),
        ("--draft-tokens 0-8:7", "--draft-tokens: '0-8:7': no batch is empty; try 1-8:7,"),
        ("--draft-tokens 1-8:x", "--draft-tokens: '1-8:x' is no range of batch sizes with a number; try 1-8:7,"),
        ("--draft-tokens 8-1:3", "--draft-tokens: '8-1:3' ends before it begins; try"),
        ("--draft-tokens 1-:300", "--draft-tokens: 300 is too large; try 255 or less"),
        ("--draft-tokens 1-8@9-:3", "--draft-tokens: the contexts of 1-8 begin at 9; try 1-8@0-8:3 before it"),
        ("--draft-tokens 1-8@0-9:3,1-8@5-:4", "--draft-tokens: 1-8: contexts 5- overlap 0-9; try"),
        ("--draft-tokens=-1", "--draft-tokens: -1 is too small; try 0 or more"),
        ("--draft-tokens 999", "--draft-tokens: 999 is too large; try 255 or less"),
        ("--draft-tokens vllm:none.json", "none.json: cannot be read (No such file or directory); try a file with"),
        ("--draft-tokens 1-:3 --drafts goodput", "--drafts goodput: follows no schedule, and --draft-tokens is one; "),
        ("--draft-tokens 1-:3 --drafts fixed", "--drafts fixed: follows no schedule, and --draft-tokens is one; try"),
        (
            "--drafts best",
            "--drafts: unknown controller 'best'; try one of: fixed, by-batch, ema, goodput, per-request,",
        ),
        ("--drafts goodput:k=3", "--drafts: goodput has no parameter 'k=3'; try one of: prior=0.7, weight=20"),
        ("--drafts goodput:prior=x", "--drafts: goodput: prior='x' is not a number; try prior=1.0"),
        ("--drafts none.py:mine", "--drafts: no such file 'none.py'; try the path of a Python file"),
    ],
)
def test_what_is_wrong_with_a_schedule_or_a_controller_is_one_line(tmp_path, flags, said):
    done = lapsbench(f"{SMALL} {flags}", tmp_path)
    assert done.code in (1, 2)
    assert done.out == ""
    assert done.err.startswith(f"error: {said}"), done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("peeks", "reads step.would_accept, which no policy may see: true lengths and future acceptance are not there"),
        ("writes", "writes step.batch; try writing only step.scratch"),
        ("remembers", "reads step.scratch, which is not there"),
        ("nothing", "returned NaN"),
    ],
)
def test_a_controller_that_may_not_do_what_it_does_is_one_line(tmp_path, function, said):
    done = lapsbench(f"{SMALL} --drafts {CONTROLLERS}:{function}", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_schedule_beyond_what_was_recorded_is_refused_as_a_number_is(tmp_path):
    for flags in ("--draft-tokens 9", "--draft-tokens 1-4:9,5-:3", "--drafts goodput --draft-tokens 9"):
        done = lapsbench(f"{SMALL} {flags}", tmp_path)
        assert (done.code, done.out) == (1, "")
        assert "recorded acceptance up to 8 draft tokens; 9 would understate it" in done.err


def rows(line, folder, name):
    lapsbench(f"{line} --out {folder / name}", folder).fine()
    table = pl.read_parquet(folder / name / "requests.parquet")
    return table.select("policy", "finished_s", "rounds", "accepted_tokens")


@pytest.mark.parametrize("engine", ["ideal", "vllm"])
def test_a_constant_schedule_is_its_number(tmp_path, engine):
    line = f"{SMALL} --engine {engine}"
    assert rows(f"{line} --draft-tokens 1-:5", tmp_path, "one").equals(
        rows(f"{line} --draft-tokens 5", tmp_path, "two")
    )


def test_what_is_asked_beyond_the_bounds_is_cut_to_them(tmp_path):
    rows(f"{SMALL} --drafts {CONTROLLERS}:beyond --draft-tokens 4", tmp_path, "cut")


def test_vllms_own_schedule_is_read_as_it_lies(tmp_path):
    table = [[1, 4, 7], [9, 16, 3]]
    for name, found in (
        ("list", table),
        ("spec", {"num_speculative_tokens": 7, "num_speculative_tokens_per_batch_size": table}),
        ("args", {"speculative_config": {"num_speculative_tokens_per_batch_size": table}}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
        theirs = rows(f"{SMALL} --draft-tokens vllm:{name}.json", tmp_path, name)
        assert theirs.equals(rows(f"{SMALL} --draft-tokens 1-4:7,9-:3", tmp_path, f"{name}2"))
    (tmp_path / "cut.json").write_text(
        json.dumps({"num_speculative_tokens": 5, "num_speculative_tokens_per_batch_size": table})
    )
    assert "1-4:5,9-16:3" in lapsbench("replay --draft-tokens vllm:cut.json --print-config", tmp_path).fine().out


@pytest.mark.parametrize("text", ["[]", "{}", "[[1, 8]]", "[[1, 8, -1]]", "[[2, 8, 3]]", "[[1, 8, 3], [8, 9, 2]]", "x"])
def test_what_vllm_would_not_take_is_one_line(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    done = lapsbench(f"{SMALL} --draft-tokens vllm:bad.json", tmp_path)
    assert done.code in (1, 2)
    assert done.out == ""
    assert "bad.json" in done.err
    assert done.err.count("\n") == 1


def test_a_gap_inherits_and_bands_cover_their_range():
    edges, table = dense("1-2:7,5-6@0-99:3,5-6@100-:5,9-:1", 10)
    assert edges.tolist() == [0, 100]
    assert table[1:].tolist() == [[7, 7], [7, 7], [7, 7], [7, 7], [3, 5], [3, 5], [3, 5], [3, 5], [1, 1], [1, 1]]
    assert written(parsed("1-2:7, 5-6@0-99:3,5-6@100-:5,9-:1")) == "1-2:7,5-6@0-99:3,5-6@100-:5,9-:1"


def test_print_config_says_what_it_became_and_reads_back_the_same(tmp_path):
    for flags in ("", "--draft-tokens 1-8:7,9-:3", "--drafts goodput", "--drafts by-batch --engine vllm"):
        text = lapsbench(f"replay {flags} --print-config", tmp_path).fine().out
        (tmp_path / "mine.toml").write_text(text)
        assert lapsbench("replay mine.toml --print-config", tmp_path).fine().out == text
        assert "draft_tokens" in tomllib.loads(text)


def test_the_run_folder_holds_the_schedule_and_who_followed_it(tmp_path):
    rows(f"{SMALL} --draft-tokens 1-8:7,9-:3", tmp_path, "kept")
    manifest = json.loads((tmp_path / "kept" / "manifest.json").read_text())
    assert manifest["engine"]["schedule"] == "1-8:7,9-:3"
    assert (manifest["engine"]["drafts"], manifest["engine"]["draft_tokens"]) == ("by-batch", 7)
    assert "--draft-tokens 1-8:7,9-:3" in manifest["command"]
    again = lapsbench(f"{SMALL.replace('-q', '')} --draft-tokens 1-8:7,9-:3 --out kept", tmp_path).fine()
    assert "resumed: 2 of 2 cells" in again.err
    other = lapsbench(f"{SMALL.replace('-q', '')} --draft-tokens 1-8:7,9-:4 --out kept", tmp_path).fine()
    assert "resumed" not in other.err
    assert "1-8:7,9-:4" in lapsbench("report kept", tmp_path).fine().out


def test_what_became_of_the_drafts_is_told_by_size_of_batch(tmp_path):
    line = f"{SMALL} --draft-tokens 1-3:6,4-:2"
    shown = lapsbench(f"{line} --out told --json told.json", tmp_path).fine().out
    for cell in json.loads((tmp_path / "told.json").read_text())["cells"]:
        found = cell["drafting"]
        by_size = {(row["first"], row["last"]): row for row in found["by_batch"]}
        assert by_size[8, 15]["drafts_per_round"] == pytest.approx(2, abs=0.01)
        assert 2 < by_size[2, 3]["drafts_per_round"] <= 6
        assert sum(row["rounds"] for row in by_size.values()) == found["all"]["rounds"]
        assert 0 < found["all"]["time_fraction"] < found["all"]["wasted_fraction"] < 1
    table = shown.partition("drafts by requests that draft together, under fcfs")[2].partition("\n\n")[0]
    assert "8-15" in table
    assert table in lapsbench("report told", tmp_path).fine().out
    assert "draft together" not in lapsbench(f"{SMALL} --draft-tokens 2", tmp_path).fine().out


def test_a_range_that_is_never_reached_changes_no_order(tmp_path):
    # `work` weighs rounds by what they take: with the drafts there are, not with the most there may be
    line = "replay --limit 400 --max-batch 8 --rate 7 --policy work --repeats 1 -q --kv-tokens 0"
    for engine in ("vllm", "ideal"):
        three = rows(f"{line} --engine {engine} --draft-tokens 1-:3", tmp_path, f"three-{engine}")
        more = rows(f"{line} --engine {engine} --draft-tokens 1-8@0-99999:3,1-8@100000-:8", tmp_path, f"more-{engine}")
        assert more["finished_s"].equals(three["finished_s"])


def test_a_constant_has_no_schedule_in_its_manifest(tmp_path):
    rows(f"{SMALL} --draft-tokens 3", tmp_path, "plain")
    engine = json.loads((tmp_path / "plain" / "manifest.json").read_text())["engine"]
    assert not {"schedule", "drafts"} & set(engine)


def test_a_profile_prints_its_schedule_and_nothing_else(tmp_path):
    ours = lapsbench("profiles describe h100-llama3.1-8b-eagle3 --schedule lapsbench", tmp_path).fine()
    assert ours.err == ""
    assert written(parsed(ours.out.strip())) == ours.out.strip()
    theirs = lapsbench("profiles describe h100-llama3.1-8b-eagle3 --schedule vllm", tmp_path).fine().out
    (tmp_path / "vllm.json").write_text(theirs)
    assert set(json.loads(theirs)) == {"num_speculative_tokens", "num_speculative_tokens_per_batch_size"}
    rows(f"{SMALL} --draft-tokens vllm:vllm.json", tmp_path, "run")
    short = lapsbench("profiles describe h100-llama3.1-8b-eagle3 --schedule lapsbench --max-batch 16", tmp_path).fine()
    made = rows(f"{SMALL} --draft-tokens {short.out.strip()}", tmp_path, "given")
    assert made.equals(rows(f"{SMALL} --drafts by-batch", tmp_path, "asked"))
    wrong = lapsbench("profiles describe h100-llama3.1-8b-eagle3 --schedule toml", tmp_path)
    assert (wrong.code, wrong.out) == (2, "")
