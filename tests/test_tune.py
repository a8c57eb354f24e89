"""`lapsbench tune`: from a question to a setting, proven on traffic that it was not chosen on."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import polars as pl
import pytest
from commands import SCRIPT, lapsbench, plain_environment, process

SMALL = "--limit 2400 --load 0.9 --repeats 2 --max-batch 16 -q"
OVER = (
    '--over "policy=fcfs|srpt-work|work-patient" --over max_batch=12..20 --over "drafts=fixed|by-batch" '
    "--over draft_tokens=1..6 --over work-patient:patience_s=5..60"
)
LIMIT = '--subject-to "jct_p99 <= 1.2x fcfs"'
COMMAND = f"tune {SMALL} {OVER} {LIMIT} --budget 20 --out tuned"


def written(folder):
    """Return the bytes of every file of a tuning."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def trials(folder):
    return pl.read_parquet(folder / "trials.parquet")


def settings(folder):
    return [json.loads(text) for text in trials(folder)["setting"]]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """One tuning that several tests look at: the folder it was started in, and what it printed."""
    folder = tmp_path_factory.mktemp("tune")
    return folder, lapsbench(f"{COMMAND} --json result", folder).fine()


# the answer ----------------------------------------------------------------------------------------------------------


def test_a_better_setting_is_found_and_proven_on_held_out_traffic(tuned):
    folder, done = tuned
    result = json.loads((folder / "result").read_text())
    held, there = result["held_out"], result["chosen_on"]
    assert result["answer"] == "better"
    assert held["ratio"] < held["high"] < 1
    assert held["limits"][0]["kept"]
    assert held["limits"][0]["value"] <= 1.2
    assert (there["seeds"], held["seeds"]) == ([0, 1], [2, 3])
    assert there["requests"] + held["requests"] == 2400
    assert f"Run {result['best']['policy']}, max_batch {result['best']['max_batch']}" in " ".join(done.out.split())
    assert re.search(r"change +-\d+\.\d % \[-.*\] +-\d+\.\d % \[-.*\]", done.out)


def test_the_verdict_fits_a_terminal(tuned):
    assert max(map(len, tuned[1].out.splitlines())) <= 100


def test_the_best_is_held_against_fcfs_and_srpt_in_the_same_batch_and_drafts(tuned):
    folder, done = tuned
    rivals = {each["policy"]: each for each in json.loads((folder / "result").read_text())["rivals"]}
    assert set(rivals) == {"fcfs", "srpt"}
    for name in rivals:
        assert re.search(rf"(beats?|It does not beat|not shown to beat) {name} with the same batch", done.out)


def test_the_scenario_replays_the_proof(tuned):
    folder, _ = tuned
    result = json.loads((folder / "result").read_text())
    scenario = tomllib.loads((folder / "tuned" / "scenario.toml").read_text())
    assert (scenario["max_batch"], scenario["seed"], scenario["repeats"]) == (result["best"]["max_batch"], 2, 2)
    done = lapsbench("replay tuned/scenario.toml --json - -q", folder).fine()
    cells = [each for each in json.loads(done.out)["cells"] if each["policy"] == result["best"]["policy"]]
    assert [each["seed"] for each in cells] == [2, 3]
    mean = sum(each["metrics"]["jct_mean_s"] for each in cells) / 2
    assert mean == pytest.approx(result["held_out"]["best"], rel=0.03)  # the warm-up that is cut may differ
    lapsbench("replay tuned/today.toml --repeats 1 -q", folder).fine()


def test_the_flags_of_the_server_are_those_of_the_setting(tuned):
    folder, done = tuned
    command = (folder / "tuned" / "serve.sh").read_text()
    assert command in done.out
    words = shlex.split(command, comments=True)
    run = json.loads((folder / "result").read_text())["run"]
    assert words[words.index("--max-num-seqs") + 1] == str(run["max_batch"])
    options = json.loads(words[words.index("--additional-config") + 1])["lapsbench"]
    assert options["policy"] == run["policy"]
    drafting = json.loads(words[words.index("--speculative-config") + 1])
    assert drafting["num_speculative_tokens"] >= 1
    if run["drafts"] == "by-batch":
        asked = f"profiles describe h100-llama3.1-8b-eagle3 --schedule vllm --max-batch {run['max_batch']}"
        assert drafting.items() >= json.loads(lapsbench(asked, folder).fine().out).items()


def test_what_does_not_count_in_a_trial_is_not_varied_in_it(tuned):
    found = settings(tuned[0] / "tuned")
    assert {each["policy"].partition(":")[0] for each in found} == {"fcfs", "srpt-work", "work-patient"}
    assert {each["drafts"] for each in found} == {"fixed", "by-batch"}
    for each in found:
        assert ("draft_tokens" in each) == (each["drafts"] == "fixed")
        assert ("patience_s" in each["policy"]) == each["policy"].startswith("work-patient")
    looked_at = trials(tuned[0] / "tuned").select("setting", "look")
    assert looked_at.n_unique() == len(looked_at)


def test_there_is_a_picture(tuned):
    picture = (tuned[0] / "tuned" / "frontier.svg").read_text()
    assert picture.startswith("<svg")
    for words in ("jct_p99 over fcfs", "jct_mean over today", "best"):
        assert words in picture


def test_nothing_better_is_said_and_is_no_error(tmp_path):
    flags = "--limit 1000 --load 0.1 --repeats 2 -q"
    done = lapsbench(f'tune {flags} --over "policy=fcfs|srpt|laps-sd" --budget 9 --out t --json r', tmp_path).fine()
    assert "Keep today's setting: nothing that was tried is shown to have a lower jct_mean." in done.out
    assert json.loads((tmp_path / "r").read_text())["answer"] == "nothing"
    assert tomllib.loads((tmp_path / "t" / "scenario.toml").read_text())["policies"] == ["fcfs", "srpt"]
    assert "--scheduler-cls" not in done.out  # vLLM's own
    assert len(set(map(str, settings(tmp_path / "t")))) == 3  # there are no more


def test_a_policy_that_makes_no_difference_is_not_recommended(tmp_path):
    flags = '--limit 1000 --load 0.1 --repeats 2 --over "policy=laps-sd|srpt" --over "drafts=fixed|by-batch" -q'
    done = lapsbench(f"tune {flags} --budget 9 --out t --json r", tmp_path).fine()
    result = json.loads((tmp_path / "r").read_text())
    assert result["answer"] == "better"
    assert result["run"] == {"policy": "fcfs", "max_batch": 64, "drafts": "by-batch"}
    assert "No policy is shown to beat fcfs with this batch" in " ".join(done.out.split())
    assert "--scheduler-cls" not in done.out


@pytest.fixture
def uneven(tmp_path):
    """Make a trace of two halves: uneven("mine.csv", 0.9, 0.1) offers these shares of what eight places serve."""
    lapsbench("traces make like.csv --requests 1000", tmp_path).fine()
    rows = pl.read_csv(tmp_path / "like.csv")
    served = lapsbench(f"replay --trace like.csv {EIGHT} --repeats 1 --policy fcfs --load 0.5 --json - -q", tmp_path)
    capacity_rps = json.loads(served.fine().out)["capacity_rps"]

    def make(name, *loads):
        gaps = [1 / (load * capacity_rps) for load in loads for _ in range(500)]
        arrivals = pl.Series("arrival_s", gaps).cum_sum()
        rows.with_columns(arrivals).write_csv(tmp_path / name)

    return make


EIGHT = "--max-batch 8 --draft-tokens 3"


def test_a_gain_that_held_out_traffic_does_not_show_is_called_overfitted(uneven, tmp_path):
    uneven("mine.csv", 1.2, 0.05)
    flags = f'--trace mine.csv {EIGHT} --repeats 2 -q --over "policy=fcfs|srpt-work"'
    done = lapsbench(f"tune {flags} --budget 4 --out t --json r", tmp_path).fine()
    result = json.loads((tmp_path / "r").read_text())
    assert result["answer"] == "overfitted"
    rows = trials(tmp_path / "t").select("setting", "look")
    assert rows.n_unique() == len(rows)
    assert result["run"]["policy"] == "fcfs"
    assert result["chosen_on"]["high"] < 0.99
    assert "Keep today's setting: srpt-work, max_batch 8" in " ".join(done.out.split())
    assert "does not hold there" in " ".join(done.out.split())


def test_a_limit_that_is_broken_on_held_out_traffic_is_said(uneven, tmp_path):
    uneven("mine.csv", 0.8, 1.1)
    flags = f"--trace mine.csv {EIGHT} --repeats 2 -q --over 'max_batch=8|16'"
    found = lapsbench(f"tune {flags} --budget 4 --out t", tmp_path).fine()
    there = trials(tmp_path / "t").filter(pl.col("look") == 1)
    assert "more, on held-out traffic" in " ".join(found.out.split())
    limit = 1.02 * max(there["value"])
    done = lapsbench(f'tune {flags} --subject-to "jct_mean <= {limit}" --budget 4 --out u --json r', tmp_path).fine()
    assert json.loads((tmp_path / "r").read_text())["answer"] == "broken"
    assert "but breaks jct_mean <= " in " ".join(done.out.split())


def test_on_the_ideal_engine_too(tmp_path):
    flags = "--engine ideal --limit 1200 --load 0.9 --repeats 2 --max-batch 16 -q"
    done = lapsbench(f'tune {flags} --over "policy=fcfs|srpt" --over max_batch=16..32 --budget 6 --out t', tmp_path)
    assert "no vllm serve flags" in done.fine().out


def test_today_is_what_its_file_says(tmp_path):
    (tmp_path / "now.toml").write_text('policies = ["srpt"]\nmax_batch = 8\ndraft_tokens = 2\n')
    flags = "--limit 1000 --load 0.8 --repeats 2 -q"
    limits = '--subject-to "jct_p99 <= 1x today" --subject-to "ttft_p99 <= 100"'
    line = f"tune --today now.toml {flags} --over max_batch=8|16|32 {limits} --budget 3 --out t --json r"
    done = lapsbench(line, tmp_path).fine()
    result = json.loads((tmp_path / "r").read_text())
    assert result["today"] == {"policy": "srpt", "max_batch": 8, "draft_tokens": 2}
    assert {each["policy"] for each in settings(tmp_path / "t")} == {"srpt"}
    assert "today: srpt, max_batch 8, draft_tokens 2" in done.out
    assert len(result["subject_to"]) == 2


# the same again ------------------------------------------------------------------------------------------------------


def test_a_budget_of_trials_repeats_to_the_byte_however_many_at_a_time(tuned, tmp_path):
    folder, done = tuned
    assert lapsbench(f"{COMMAND} --jobs 3", tmp_path).fine().out == done.out
    assert written(tmp_path / "tuned") == written(folder / "tuned")


def test_the_same_command_runs_nothing_twice_and_a_larger_budget_goes_on(tuned, tmp_path):
    loud, fewer = COMMAND.replace(" -q", ""), COMMAND.replace("--budget 20", "--budget 9")
    lapsbench(fewer, tmp_path).fine()
    more = lapsbench(loud, tmp_path).fine()
    resumed, total = map(int, re.search(r"resumed: (\d+) of (\d+) trials were already there", more.err).groups())
    assert 9 <= resumed < total
    assert written(tmp_path / "tuned") == written(tuned[0] / "tuned")
    again = lapsbench(loud, tmp_path).fine()
    assert f"resumed: {total} of {total} trials were already there" in again.err
    assert again.out == more.out == tuned[1].out


def test_a_budget_of_time_is_a_prefix_of_the_same_sequence(tuned, tmp_path):
    lapsbench(COMMAND.replace("--budget 20", "--budget 3s"), tmp_path).fine()
    mine, theirs = trials(tmp_path / "tuned"), trials(tuned[0] / "tuned")
    searched, asked = (each.filter(pl.col("phase") == "search") for each in (mine, theirs))
    shorter = min(len(searched), len(asked))
    assert shorter >= 1
    assert searched.head(shorter).equals(asked.head(shorter))


def test_another_question_in_the_same_folder_is_refused(tuned):
    done = lapsbench(COMMAND.replace("1.2x", "1.3x"), tuned[0])
    what = "tuned: holds the trials of another question, or of another version; try a new or empty --out folder"
    assert (done.code, done.err) == (1, f"error: {what}\n")


def test_ctrl_c_keeps_finished_trials(tuned, tmp_path):
    line = COMMAND.replace(" -q", "").replace("--budget 20", "--budget 4000")
    running = subprocess.Popen(
        [SCRIPT, *shlex.split(line)],
        cwd=tmp_path,
        env=plain_environment(),
        stdout=-1,
        stderr=-1,
        # what a shell runs in the background hears no Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no other thread is there
    )
    file = tmp_path / "tuned" / "trials.parquet"
    until = time.monotonic() + 90
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert b"interrupted" in said
    kept = len(trials(tmp_path / "tuned"))
    assert kept >= 1
    more = lapsbench(COMMAND.replace(" -q", ""), tmp_path).fine()
    assert re.search(r"resumed: \d+ of \d+ trials", more.err)
    assert written(tmp_path / "tuned") == written(tuned[0] / "tuned")


def test_the_command_of_the_docs_runs_as_printed(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "tune.md").read_text()
    printed = re.search(r"lapsbench (tune (?:.*\\\n)+.*)", text)[1].replace("\\\n", " ")
    made = "traces make my.csv --requests 1200"
    lapsbench(made, tmp_path).fine()
    line = printed.replace("--profile mine", "--max-batch 16 --repeats 2").replace("--budget 10m", "--budget 8")
    assert "held-out traffic" in lapsbench(f"{line} -q", tmp_path).fine().out


# what is wrong -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "--over: nothing may vary"),
        ("--over fcfs", "--over: 'fcfs' says not what varies over what"),
        ("--over speed=1..2", "--over speed=1..2: unknown key 'speed'; try one of: policy, drafts, max_batch"),
        ('--over "policy=fcfs|fastest"', "--over policy=fcfs|fastest: unknown policy 'fastest'"),
        ("--over policy=oracle-srpt-tokens", "oracle-srpt-tokens knows what no server knows"),
        ('--over "policy=fcfs|"', "has an empty choice"),
        ('--over "max_batch=16|16"', "has a choice twice"),
        ("--over max_batch=256..16", "nothing lies from 256 to 16; try the smaller number first"),
        ("--over max_batch=16..16", "nothing lies from 16 to 16"),
        ("--over max_batch=16..many", "--over max_batch=16..many: '16..many' is not a whole number"),
        ("--over max_batch=16..", "'16..' is not LO..HI"),
        ("--over max_batch=1.5..3", "max_batch takes whole numbers"),
        ("--over max_batch=0..8", "--over max_batch=0..8: 0 is too small; try 1 or more"),
        ("--over drafts=1..3", "drafts takes names, not a range"),
        ("--over drafts=best", "--over drafts=best: unknown controller 'best'"),
        ("--over draft_tokens=1..20", "recorded acceptance up to 8 draft tokens; try 8 at most"),
        ("--over prefill_budget=1..20", "is a setting of the ideal engine, and the engine is vllm"),
        ("--over batched_tokens=16..512 --over max_batch=8..64", "16 tokens a step are fewer than 64 places"),
        ("--over max_batch=8..16 --over max_batch=32..64", "max_batch is given twice"),
        ("--over laps-sd:eps=0.1..0.5", "--over laps-sd:eps=0.1..0.5: no trial is of laps-sd"),
        ("--over fcfs:eps=0.1..0.5", "fcfs has no parameter 'eps'; try one of: none"),
        ("--over nobody:eps=0.1..0.5", "--over nobody:eps=0.1..0.5: unknown policy 'nobody'"),
        (f"{OVER} --minimize speed", "--minimize: no metric is called 'speed'; try one of: jct_mean"),
        (f"{OVER} --minimize throughput", "throughput is not better when it is lower"),
        (f'{OVER} --subject-to "jct_p99 < 2"', "'jct_p99 < 2' is no constraint"),
        (f'{OVER} --subject-to "jct_p99 <= 2x srpt"', "is limited by 'srpt'; try fcfs, today, or a plain number"),
        (f'{OVER} --subject-to "jct_p99 >= 2"', "jct_p99 is better when it is lower"),
        (f'{OVER} --subject-to "jct_p42 <= 2"', "no metric is called 'jct_p42'"),
        (f'{OVER} --subject-to "goodput_fraction >= 0.9"', "counts requests within an SLO; try --slo"),
        (f"{OVER} --budget soon", "--budget: 'soon' is neither a time nor a number of trials"),
        (f"{OVER} --budget 0", "--budget: '0' is neither"),
        (f"{OVER} --load 0.5,0.9", "--load: several loads have several answers"),
        (f"{OVER} --engine vllm-native", "replays too slowly to search with"),
        (f"{OVER} --today nowhere.toml", "nowhere.toml: not a readable TOML file"),
        (f"{OVER} --today two.toml", "two.toml names 2 policies; try the one that runs today"),
        (f"{OVER} --limit 300", "trace chat: 300 requests are too few to choose on one half and to prove on the other"),
    ],
)
def test_bad_input_is_one_line(tmp_path, flags, said):
    (tmp_path / "two.toml").write_text('policies = ["srpt", "sjf"]\n')
    done = lapsbench(f"tune {flags} --out t -q", tmp_path)
    assert done.code == (1 if "too few" in said or "readable" in said else 2)
    assert done.out == ""
    assert len(done.err.splitlines()) == 1, done.err
    assert said in done.err


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "mine.txt").write_text("mine")
    done = lapsbench(f"{COMMAND.replace('--out tuned', '--out t')}", tmp_path)
    assert (done.code, done.err) == (1, "error: t: holds files, but no tuning; try a new or empty --out folder\n")


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lapsbench.tuning")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = lapsbench(COMMAND, tmp_path)
    assert (done.code, done.err) == (
        1,
        "error: tune: takes optuna, which is not installed; try pip install 'lapsbench[tune]'\n",
    )


def test_help_and_a_replay_do_not_import_optuna(tmp_path):
    look = "import sys, lapsbench.cli.entry, lapsbench.replay; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False, cwd=tmp_path).returncode == 0
    assert "KEY=LO..HI" in process("tune --help", tmp_path).fine().out
