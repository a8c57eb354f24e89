"""`lapsbench tune --on`: the bytes of one process, from processes of this machine; from clusters: test_cluster.py."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from pathlib import Path

import polars as pl
import pytest
from clusters import BIN, MINE, family, printed, wait_for, written
from commands import lapsbench, process, running

from lapsbench.cli.running import COMPILING

PACKAGE = Path(__file__).parents[1] / "lapsbench"
DOCS = printed("lapsbench tune", {}).removeprefix("lapsbench ")
"""What docs/cluster.md prints."""
COMMAND = DOCS.replace("--on dask://127.0.0.1:8786 ", "")
DRAFTS = """
def halves(step, share=0.5):
    return step.most_drafts * share
"""
LEARNING = """
from lapsbench.policies.gittins import calibrate
from lapsbench.policies.registry import policy

@policy(preemptive=True, knows=("calibration",), calibrate=calibrate)
def learnt(job, system, gap=1.0, per_class=1.0):
    return job.predicted_tokens * system.mean_round_s * gap
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The docs' tuning in one process: its folder, and what it printed."""
    room = tmp_path_factory.mktemp("whole")
    (room / "mine.py").write_text(MINE)
    return room / "tuned", lapsbench(f"{COMMAND} --jobs 1", room).fine()


def test_a_users_policy_is_tried_with_its_constant(whole):
    tried = [json.loads(each) for each in pl.read_parquet(whole[0] / "trials.parquet")["setting"]]
    constants = {each["policy"] for each in tried if "mine.py:shortest:tokens=" in each["policy"]}
    assert len(constants) >= 2
    assert {each["policy"].partition(":")[0] for each in tried} == {"fcfs", "srpt-work", "mine.py"}


def test_a_killed_process_of_this_machine_costs_no_finished_trial_and_here_none_is_tried_again(tmp_path, whole):
    (tmp_path / "mine.py").write_text(MINE)
    with running([BIN / "lapsbench", *shlex.split(f"{COMMAND} --on local:2")], tmp_path) as tuning:
        wait_for(lambda: (tmp_path / "tuned/trials.parquet").exists() or tuning.poll() is not None)
        working = [each for each in family(tuning.pid)[1:] if "popen_loky" in " ".join(each.cmdline())]
        os.kill(working[-1].pid, signal.SIGKILL)
        out, err = tuning.communicate(timeout=100)
    assert tuning.returncode == 0, err
    assert "local:2: cells under way were lost" in err
    assert out == whole[1].out
    assert written(tmp_path / "tuned") == written(whole[0])
    again = lapsbench(COMMAND, tmp_path).fine()
    (there, of_all) = re.search(r"resumed: (\d+) of (\d+) trials were already there", again.err).groups()
    assert there == of_all


def test_files_of_drafts_and_what_policies_learn_travel(tmp_path):
    (tmp_path / "mine.py").write_text(DRAFTS + LEARNING)
    lapsbench("traces make past.csv --requests 500 --seed 7", tmp_path).fine()
    line = (
        "tune --limit 800 --load 0.8 --repeats 2 --max-batch 8 --calibration past.csv --budget 8 "
        '--over "policy=fcfs|gittins|mine.py:learnt" --over "drafts=fixed|mine.py:halves" --over mine.py:learnt:gap=1|2'
    )
    one = lapsbench(f"{line} --out one", tmp_path).fine()
    two = process(f"{line} --out two --on local:2", tmp_path).fine()
    assert two.out == one.out
    told = two.err.replace("two", "one").replace("reaching local:2\n", "")
    assert told == one.err.replace(f"{COMPILING}\n", "")
    assert written(tmp_path / "one") == written(tmp_path / "two")
    tried = (tmp_path / "one/trials.parquet").read_bytes()
    assert b"mine.py:halves" in tried
    assert b"mine.py:learnt:gap=2" in tried


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ("--on local:2 --jobs 2", 2, "--on and --jobs: exclude each other"),
        ("--on slurm://a:1", 2, "--on: 'slurm://a:1' is no place to replay"),
        ("--on dask://127.0.0.1:1", 1, "--on dask://127.0.0.1:1: nobody answers there"),
    ],
)
def test_a_bad_place_is_one_line(tmp_path, flags, code, said):
    (tmp_path / "mine.py").write_text(MINE)
    done = process(f"{COMMAND} -q {flags}", tmp_path)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert said in done.err
    assert not (tmp_path / "tuned").exists()
