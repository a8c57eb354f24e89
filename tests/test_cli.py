"""The command line from outside: what it prints, writes, resumes, and how little it needs to say what it can do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import typer
from commands import AZURE, SCRIPT, lapsbench, plain_environment, process

from lapsbench import resources, schema
from lapsbench.cli.console import complete_policy
from lapsbench.cli.entry import application
from lapsbench.drafting import DRAFT_TOKENS
from lapsbench.engines import IDEAL, VLLM
from lapsbench.policies.registry import names
from lapsbench.scenario import Scenario

SMALL = "replay --load 0.9 --limit 400 --max-batch 8 --repeats 2 --policy fcfs --policy srpt"
DOCS = Path(__file__).parents[1] / "docs" / "cli.md"
MINE = '''\
def patience():
    return 2.0


def shortest_prompt(job, weight=1.0):
    """Fewest prompt tokens, less what it has waited."""
    return weight * job.prompt_tokens - job.attained_s
'''


def files(folder):
    """Return the bytes of everything in a run folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def strict(text):
    """Return parsed JSON; NaN and Infinity are no JSON."""
    return json.loads(text, parse_constant=pytest.fail)


# determinism -----------------------------------------------------------------------------------------------------


def test_the_same_command_gives_the_same_bytes(tmp_path):
    first = lapsbench(f"{SMALL} --out first", tmp_path).fine()
    again = lapsbench(f"{SMALL} --out again", tmp_path).fine()
    jobs = lapsbench(f"{SMALL} --out jobs --jobs 2", tmp_path).fine()
    assert first.out == again.out == jobs.out
    assert files(tmp_path / "first") == files(tmp_path / "again") == files(tmp_path / "jobs")


def test_a_process_of_its_own_gives_the_same_bytes(tmp_path):
    here = lapsbench(f"{SMALL} --out here", tmp_path).fine()
    there = process(f"{SMALL} --out there --jobs 2", tmp_path).fine()
    assert here.out == there.out
    assert files(tmp_path / "here") == files(tmp_path / "there")


# results ---------------------------------------------------------------------------------------------------------


def test_json_on_stdout_is_json_alone_and_keeps_the_contract(tmp_path):
    found = strict(lapsbench(f"{SMALL} --slo ttft:500 --json -", tmp_path).fine().out)
    assert found["schema"] == "lapsbench.replay/1"
    assert len(found["cells"]) == 4
    for cell in found["cells"]:
        counts = {"arrivals", "finished", "rejected", "unfinished"}
        assert {"policy", "load", "seed", "metrics", *counts} <= cell.keys()
        assert cell["arrivals"] == cell["finished"] + cell["rejected"] + cell["unfinished"] == 400
        of_latency = {"jct_mean_s", "jct_p50_s", "jct_p99_s", "ttft_mean_s", "ttft_p99_s", "tpot_p50_s"}
        assert of_latency | {"slowdown_mean", "throughput_rps", "goodput_rps"} <= cell["metrics"].keys()
        assert all(isinstance(value, float | None) for value in cell["metrics"].values())


def test_undefined_is_null(tmp_path):
    (tmp_path / "one.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,5,1\n")
    found = strict(lapsbench("replay --trace one.csv --repeats 1 --policy fcfs --json -", tmp_path).fine().out)
    metrics = found["cells"][0]["metrics"]
    assert metrics["tpot_p50_s"] is None
    assert metrics["goodput_rps"] is None


def test_the_run_folder_keeps_the_contract(tmp_path):
    lapsbench(f"{SMALL} --out run", tmp_path).fine()
    for name, wanted in (("requests", schema.REQUESTS), ("summary", schema.SUMMARY)):
        path = tmp_path / "run" / f"{name}.parquet"
        found = pq.read_schema(path)
        assert found.remove_metadata().equals(wanted)
        assert found.metadata[schema.TAG] == schema.tag_of(name)
        group = pq.read_metadata(path).row_group(0)
        assert {group.column(i).compression for i in range(len(wanted))} == {"ZSTD"}
    rows = pl.read_parquet(tmp_path / "run/requests.parquet")
    per_cell = rows.group_by("policy", "load", "seed").agg(pl.len(), pl.col("request").n_unique().alias("unique"))
    assert per_cell.select("len", "unique").rows() == [(400, 400)] * 4
    assert rows["status"].unique().to_list() == ["finished"]
    assert rows["finished_s"].null_count() == 0
    manifest = strict((tmp_path / "run/manifest.json").read_text())
    assert manifest["schema"] == "lapsbench.run/1"
    assert [cell["policy"] for cell in manifest["cells"]] == ["fcfs", "fcfs", "srpt", "srpt"]


def test_the_run_folder_and_json_tell_the_same(tmp_path):
    found = strict(lapsbench(f"{SMALL} --out run --json -", tmp_path).fine().out)
    summary = pl.read_parquet(tmp_path / "run/summary.parquet")
    for cell in found["cells"]:
        mine = summary.filter(policy=cell["policy"], seed=cell["seed"], metric="jct_s", statistic="mean")
        assert mine["value"].to_list() == [cell["metrics"]["jct_mean_s"]]


def test_the_azure_trace_works_as_it_is(tmp_path, public):
    policies = ("fcfs", "sjf", "srpt", "laps-sd", "oracle-srpt-rounds")
    line = f"replay --trace {public(AZURE)} --load 0.9 {' '.join(f'--policy {each}' for each in policies)} --repeats 5"
    found = strict(lapsbench(f"{line} --limit 2000 --out run --json -", tmp_path).fine().out)
    assert [cell["policy"] for cell in found["cells"]] == [each for each in policies for _ in range(5)]
    rows = pl.read_parquet(tmp_path / "run/requests.parquet")
    for cell in found["cells"]:
        status = rows.filter(policy=cell["policy"], seed=cell["seed"])["status"].to_list()
        kept = {each: status.count(each) for each in ("finished", "rejected", "unfinished")}
        assert kept == {each: cell[each] for each in kept}
        assert cell["arrivals"] == sum(kept.values()) == 2000
    lapsbench("report run --html page.html", tmp_path).fine()
    assert (tmp_path / "page.html").stat().st_size < 2_000_000


# the terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [SMALL, "policies", "policies laps-sd", "policies oracle-srpt-rounds"])
def test_a_pipe_gets_a_hundred_plain_columns(tmp_path, line):
    done = lapsbench(line, tmp_path).fine()
    assert max(len(text) for text in done.out.splitlines()) <= 100
    assert "\x1b" not in done.out + done.err
    assert not re.search(r"[ \t]\n", done.out)


def test_policies_are_listed_and_described(tmp_path):
    listed = lapsbench("policies", tmp_path).fine().out
    assert all(re.search(rf"^{name}\*? ", listed, re.MULTILINE) for name in names())
    assert "oracle-srpt-tokens*" in listed
    described = lapsbench("policies laps-sd", tmp_path).fine().out
    assert "eps=0.05" in described
    assert "2505.17074" in described


HELP = {
    "": ["replay", "report", "compare", "policies"],
    "--help": ["replay", "report", "compare", "policies"],
    "report --help": ["--html", "RUN..."],
    "compare --help": ["--fail-if", "RUN_A"],
    "replay --help": ["--trace", "--on-preempt"],
    "policies --help": ["One policy, in full"],
    "--version": ["lapsbench 0."],
}


@pytest.mark.parametrize(("line", "words"), HELP.items())
def test_help(tmp_path, line, words):
    done = lapsbench(line, tmp_path).fine()
    assert all(word in done.out for word in words)
    assert done.err == ""


@pytest.mark.parametrize("line", ["--help", "replay --help"])
def test_help_imports_nothing_heavy(line):
    code = f"""
import sys
sys.argv = ["lapsbench", *{line.split()!r}]
from lapsbench.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
print(*(name for name in ("numpy", "polars", "numba", "pyarrow", "rich") if name in sys.modules), sep=",")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == ""


def test_policy_names_complete():
    assert complete_policy("las") == ["las"]
    assert complete_policy("oracle-srpt") == ["oracle-srpt-rounds", "oracle-srpt-tokens"]
    assert complete_policy("") == names()


def test_the_shell_completes_policy_names():
    asked = {"_LAPSBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "lapsbench replay --policy srp", "COMP_CWORD": "3"}
    environment = {**plain_environment(), **asked}
    done = subprocess.run([SCRIPT], capture_output=True, check=True, text=True, env=environment, timeout=60)
    assert done.stdout.split() == ["srpt", "srpt-accept", "srpt-work"]


# scenarios -------------------------------------------------------------------------------------------------------

TOML = """\
policies = ["fcfs", "srpt"]
load = 0.9
limit = 400
max_batch = 8
repeats = 2
"""


def test_a_scenario_file_equals_its_flags(tmp_path):
    (tmp_path / "mine.toml").write_text(TOML)
    lapsbench("replay mine.toml --out file", tmp_path).fine()
    lapsbench(f"{SMALL} --out flags", tmp_path).fine()
    assert files(tmp_path / "file") == files(tmp_path / "flags")


def test_a_flag_beats_the_file(tmp_path):
    (tmp_path / "mine.toml").write_text(TOML.replace("max_batch = 8", "max_batch = 2") + "slo = 'ttft:9'\n")
    beaten = lapsbench("replay mine.toml --max-batch 8 --slo ttft:500 --json -", tmp_path).fine()
    assert beaten.out == lapsbench(f"{SMALL} --slo ttft:500 --json -", tmp_path).fine().out
    by_rate = strict(lapsbench("replay mine.toml --rate 2 --json -", tmp_path).fine().out)
    assert (by_rate["rate_rps"], by_rate["cells"][0]["load"]) == (2, None)


# one's own policy ------------------------------------------------------------------------------------------------


def test_ones_own_policy_runs_beside_the_others(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    line = f"{SMALL} --policy mine.py:shortest_prompt --policy mine.py:shortest_prompt:weight=-1 --json -"
    found = strict(lapsbench(line, tmp_path).fine().out)
    mean = {cell["policy"]: cell["metrics"]["jct_mean_s"] for cell in found["cells"]}
    assert list(mean) == ["fcfs", "srpt", "shortest-prompt", "shortest-prompt:weight=-1"]
    assert len(set(mean.values())) == 4
    assert "Fewest prompt tokens" in lapsbench("policies mine.py:shortest_prompt", tmp_path).fine().out


def test_ones_own_policy_runs_again_in_a_new_process(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    line = f"{SMALL} --policy mine.py:shortest_prompt"
    assert process(line, tmp_path).fine() == process(line, tmp_path).fine()


def test_an_ablation_has_the_name_it_was_typed_with(tmp_path):
    found = strict(lapsbench(f"{SMALL} --policy laps-sd --policy laps-sd:eps=0 --json -", tmp_path).fine().out)
    assert [cell["policy"] for cell in found["cells"][::2]] == ["fcfs", "srpt", "laps-sd", "laps-sd:eps=0"]


# resuming --------------------------------------------------------------------------------------------------------


def resumed(done):
    """Return how many cells were not run again, and of how many."""
    told = re.search(r"resumed: (\d+) of (\d+) cells", done.err)
    return (int(told[1]), int(told[2])) if told else None


def test_the_same_command_runs_nothing_again(tmp_path):
    first = lapsbench(f"{SMALL} --out run", tmp_path).fine()
    before = files(tmp_path / "run")
    again = lapsbench(f"{SMALL} --out run", tmp_path).fine()
    assert (resumed(first), resumed(again)) == (None, (4, 4))
    assert again.out == first.out
    assert files(tmp_path / "run") == before


EXTENSIONS = {
    "a policy": f"{SMALL} --policy las",
    "a policy before": SMALL.replace("--policy fcfs", "--policy las --policy fcfs"),
    "seeds": SMALL.replace("repeats 2", "repeats 3"),
    "a load": SMALL.replace("0.9", "0.5,0.9"),
}


@pytest.mark.parametrize("longer", EXTENSIONS.values(), ids=EXTENSIONS)
def test_an_extended_run_runs_only_what_is_new(tmp_path, longer):
    lapsbench(f"{SMALL} --out run", tmp_path).fine()
    extended = lapsbench(f"{longer} --out run", tmp_path).fine()
    at_once = lapsbench(f"{longer} --out fresh", tmp_path).fine()
    done, cells = resumed(extended)
    assert done == 4 < cells
    assert extended.out == at_once.out
    assert files(tmp_path / "run") == files(tmp_path / "fresh")


def changed_profile(file, column, change):
    """Return a function that makes the profile `slow`: the shipped one with a column changed."""

    def prepare(room):
        slow = shutil.copytree(resources.shipped("profiles") / "h100-llama3.1-8b-eagle3", room / "slow")
        pl.read_parquet(slow / file).with_columns(change(pl.col(column))).write_parquet(slow / file)

    return prepare


CHANGES = {  # what changes: (what is prepared, the other command line)
    "seed": (None, f"{SMALL} --seed 7"),
    "engine": (None, f"{SMALL} --draft-tokens 2"),
    "predictor": (None, f"{SMALL} --predict oracle"),
    "trace": (None, SMALL.replace("limit 400", "limit 401")),
    "calibration": (None, f"{SMALL} --calibration code"),
    "costs": (changed_profile("cost.parquet", "time_s", lambda time_s: time_s * 2), f"{SMALL} --profile slow"),
    "recordings": (changed_profile("acceptance.parquet", "prompt_tokens", lambda n: n + 1), f"{SMALL} --profile slow"),
}


@pytest.mark.parametrize(("prepare", "other"), CHANGES.values(), ids=CHANGES)
def test_a_changed_input_runs_everything_again_and_says_what_it_replaced(tmp_path, prepare, other):
    if prepare:
        prepare(tmp_path)
    lapsbench(f"{SMALL} --out run", tmp_path).fine()
    changed = lapsbench(f"{other} --out run", tmp_path).fine()
    assert resumed(changed) is None
    assert "replaced: 4 cells of another command that were in run" in changed.err
    lapsbench(f"{other} --out fresh", tmp_path).fine()
    assert files(tmp_path / "run") == files(tmp_path / "fresh")


def test_a_policy_whose_helper_changed_is_run_again(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    line = f"{SMALL} --policy mine.py:shortest_prompt --out run"
    lapsbench(line, tmp_path).fine()
    assert resumed(lapsbench(line, tmp_path).fine()) == (6, 6)
    (tmp_path / "mine.py").write_text(MINE.replace("2.0", "3.0"))
    assert resumed(lapsbench(line, tmp_path).fine()) == (4, 6)


def test_quiet_says_nothing_of_resuming(tmp_path):
    lapsbench(f"{SMALL} --out run --quiet", tmp_path).fine()
    assert lapsbench(f"{SMALL} --out run --quiet", tmp_path).fine().err == ""


# the documentation -----------------------------------------------------------------------------------------------


def told_defaults():
    """Return the last cell of each row of the table of flags, by flag."""
    text = DOCS.read_text().partition("## report")[0]
    rows = re.findall(r"^\| `(--[a-z-]+).*\| (.*) \|$", text, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    return dict(rows)


def test_every_flag_is_in_the_docs():
    options = typer.main.get_command(application()).commands["replay"].params
    assert told_defaults().keys() == {option.opts[0] for option in options if option.opts[0].startswith("--")}


@pytest.mark.parametrize("verb", ["report", "compare"])
def test_every_flag_of_the_other_verbs_is_in_the_docs(verb):
    options = typer.main.get_command(application()).commands[verb].params
    section = DOCS.read_text().partition(f"## {verb}\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE))
    assert told == {option.opts[0] for option in options if option.opts[0].startswith("--")}


def test_the_defaults_in_the_docs_are_true():
    told = told_defaults()
    for key in ("profile", "predict", "engine", "max_batch", "seed", "repeats"):
        assert told[f"--{key.replace('_', '-')}"].strip("`") == str(Scenario.model_fields[key].default)
    assert told["--draft-tokens"].startswith(f"{DRAFT_TOKENS};")
    said = {key: told[f"--{key.replace('_', '-')}"] for key in {*IDEAL, *VLLM}}
    for key in said.keys() - {"kv_tokens", "draft_method", "max_model_len", "on_preempt"}:
        assert said[key].strip("`") == str((IDEAL | VLLM)[key])
    assert said["on_preempt"] == f"`{VLLM['on_preempt']}`; ideal: `{IDEAL['on_preempt']}`"


def test_the_scenario_in_the_docs_runs(tmp_path):
    (text,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (tmp_path / "scenario.toml").write_text(text)
    lapsbench("replay scenario.toml --limit 100 --repeats 1", tmp_path).fine()
