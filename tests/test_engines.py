"""Two engines on the command line: each has its own settings, refuses the other's, and says what it became."""

from __future__ import annotations

import json
import tomllib

import polars as pl
import pyarrow.parquet as pq
import pytest
from commands import lapsbench

from lapsbench import schema
from lapsbench.store.run import CELLS

TWO = "--repeats 1 --policy fcfs --policy srpt -q"
SMALL = f"replay --limit 200 {TWO}"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--prefill-budget 512",
            "--prefill-budget: is a setting of the ideal engine, and the engine is vllm; try --batched-tokens, or",
        ),
        (
            "--engine ideal --batched-tokens 512",
            "--batched-tokens: is a setting of the vllm engine, and the engine is ideal; try",
        ),
        (
            "--engine ideal --prefix-cache off",
            "--prefix-cache: is a setting of the vllm engine, and the engine is ideal; try",
        ),
        (
            "--on-preempt swap",
            "--on-preempt: vllm swaps nothing; try keep or recompute, or --engine ideal",
        ),
        ("--engine orca", "--engine: unknown value 'orca'; try 'ideal', 'vllm' or 'vllm-native'"),
        ("--kv-tokens 10", "--kv-tokens: 10 tokens are less than one block of 16; try more of them, or"),
        ("--batched-tokens 8", "--batched-tokens: 8 tokens a step are fewer than 64 places; try more of"),
    ],
)
def test_a_setting_that_the_engine_does_not_have_is_one_line(tmp_path, flags, said):
    done = lapsbench(f"{SMALL} {flags}", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {said}")
    assert done.err.count("\n") == 1


def test_a_scenario_file_is_refused_by_its_key(tmp_path):
    (tmp_path / "mine.toml").write_text('engine = "vllm"\nprefill_budget = 512\n')
    done = lapsbench("replay mine.toml", tmp_path)
    assert (done.code, done.err.partition(": ")[2].partition(": is")[0]) == (2, "mine.toml, key prefill_budget")


@pytest.mark.parametrize("setting", ["prefill_budget = 512", 'on_preempt = "swap"'])
def test_a_file_of_the_time_when_ideal_was_the_default_is_told_to_say_so(tmp_path, setting):
    (tmp_path / "mine.toml").write_text(f"limit = 50\n{setting}\n")
    done = lapsbench("replay mine.toml", tmp_path)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"error: mine.toml, key {setting.split(' ')[0]}: ")
    assert done.err.endswith('; try engine = "ideal"\n')
    (tmp_path / "mine.toml").write_text(f'limit = 50\n{setting}\nengine = "ideal"\n')
    assert "engine: ideal" in lapsbench(f"replay mine.toml {TWO}", tmp_path).fine().out
    assert lapsbench("replay mine.toml --engine vllm", tmp_path).code == 2


def test_vllm_is_what_is_replayed_where_nothing_is_said(tmp_path):
    default, said = (lapsbench(f"{SMALL} {flags}", tmp_path).fine().out for flags in ("", "--engine vllm"))
    assert default == said
    assert "\nengine: vllm 0.32, " in default
    assert "KV cache 410,000 tokens" in default


def test_a_run_of_the_time_when_ideal_was_the_default_says_how_it_is_made_today(tmp_path):
    lapsbench(f"{SMALL} --engine ideal --out run", tmp_path).fine()
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["command"] = manifest["command"].replace(" --engine ideal", "")
    path.write_text(json.dumps(manifest))
    text = lapsbench("report run --markdown -", tmp_path).fine().out
    assert "--engine ideal" in text.partition("command: ")[2].partition("\n")[0]


def test_vllm_itself_where_it_is_not_installed_is_one_line(tmp_path):
    done = lapsbench(f"{SMALL} --engine vllm-native", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "vLLM is not installed here" in done.err
    assert "--engine vllm" in done.err
    assert done.err.count("\n") == 1


def test_what_was_not_given_is_told_by_print_config_and_reads_back_the_same(tmp_path):
    text = lapsbench("replay --print-config", tmp_path).fine().out
    settings = tomllib.loads(text)
    assert settings["batched_tokens"] == 8192
    assert settings["kv_tokens"] == 410_000  # of the profile
    assert settings["draft_method"] == "eagle"
    assert settings["on_preempt"] == "recompute"
    assert "prefill_budget" not in settings
    (tmp_path / "all.toml").write_text(text)
    assert lapsbench("replay all.toml --print-config", tmp_path).fine().out == text
    assert "batched_tokens" not in lapsbench("replay --engine ideal --print-config", tmp_path).fine().out


def test_the_run_folder_says_whose_rules_and_adds_up(tmp_path):
    tight = "--engine vllm --kv-tokens 4000 --load 1.2 --prefix-cache off"
    table = lapsbench(f"{SMALL} {tight} --out run", tmp_path).fine().out
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [manifest[key] for key in ("kind", "rules", "rules_version")] == ["simulated", "vllm", "0.32"]
    assert "engine: vllm 0.32" in table
    assert lapsbench("report run", tmp_path).fine().out == table
    rows = pl.read_parquet(tmp_path / "run" / "requests.parquet").filter(status="finished")
    total = 1 + pl.col("rounds") + pl.col("accepted_tokens") + pl.col("resumes")
    assert rows.filter(total != pl.col("output_tokens")).is_empty()
    assert rows["resumes"].sum() > 0
    assert rows["preemptions"].sum() > 0


def test_a_run_folder_of_another_engine_is_left_alone(tmp_path):
    table = lapsbench(f"{SMALL} --engine ideal --out run", tmp_path).fine().out
    done = lapsbench(f"{SMALL} --engine vllm --out run", tmp_path)
    what = "holds a run of the ideal engine, and this is one of the vllm engine; try a new or empty --out folder"
    assert (done.code, done.out, done.err) == (1, "", f"error: run: {what}\n")
    assert lapsbench("report run", tmp_path).fine().out == table


def test_a_folder_of_the_version_before_is_still_read(tmp_path):
    table = lapsbench(f"{SMALL} --out run", tmp_path).fine().out
    path = tmp_path / "run" / "requests.parquet"
    with pq.ParquetFile(path) as file:
        metadata = file.metadata.metadata
        groups = [file.read_row_group(i).drop_columns("resumes") for i in range(file.num_row_groups)]
    with pq.ParquetWriter(path, groups[0].schema.with_metadata({schema.TAG: b"requests/1"})) as writer:
        for group in groups:
            writer.write_table(group.replace_schema_metadata({schema.TAG: b"requests/1"}))
        writer.add_key_value_metadata({CELLS: metadata[CELLS]})
    assert lapsbench("report run", tmp_path).fine().out == table


def test_a_comparison_of_two_engines_says_what_differs(tmp_path):
    for name, engine in (("one", "ideal"), ("two", "vllm")):
        lapsbench(f"{SMALL} --rate 10 --engine {engine} --out {name}", tmp_path).fine()
    said = lapsbench("compare one two", tmp_path).fine().out
    assert "rules" in said
