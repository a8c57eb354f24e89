"""`lapsbench tune` over a user's own files: policies with constants and patience, controllers, what is learnt."""

from __future__ import annotations

import json
import shlex

import polars as pl
from commands import lapsbench

MINE = '''
def quickest(job, scale=1.0):
    """Fewest predicted tokens left first."""
    return (job.predicted_tokens - job.emitted_tokens) * scale

def waiting(job, system, patience_s=0.0):
    """Fewest predicted tokens first, and who has waited longer than patience before them."""
    patience = patience_s if patience_s > 0 else 0.85 * system.fcfs_p99_s
    return job.arrival_s - 1e9 if system.now_s - job.arrival_s > patience else job.predicted_tokens

def halves(step, share=0.5):
    return step.most_drafts * share
'''
LEARNING = """
import numpy as np
from lapsbench.core import TABLE
from lapsbench.policies.registry import policy

def table(sample, parameters):
    return np.full(TABLE, sample.rounds.mean() * parameters["scale"])

@policy(preemptive=True, knows=("calibration",), calibrate=table)
def learnt(job, system, scale=1.0):
    return job.predicted_tokens * system.mean_round_s * scale
"""
SMALL = "tune --limit 2400 --load 0.95 --repeats 3 --max-batch 4 --budget 6 --out t -q"


def settings(folder):
    return [json.loads(text) for text in pl.read_parquet(folder / "trials.parquet")["setting"]]


def served(folder):
    """Return what the plug-in is told."""
    words = shlex.split((folder / "serve.sh").read_text(), comments=True)
    return json.loads(words[words.index("--additional-config") + 1])["lapsbench"]


def test_a_users_policy_that_wins_is_written_out_as_it_was_tried(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    line = f'{SMALL} --over "policy=fcfs|mine.py:quickest" --over mine.py:quickest:scale=0.5..2'
    done = lapsbench(line, tmp_path).fine()
    policy = served(tmp_path / "t")["policy"]
    assert policy.startswith("mine.py:quickest:scale=")
    assert policy in {each["policy"] for each in settings(tmp_path / "t")}
    assert f"Run {policy}, max_batch 4" in " ".join(done.out.split())
    again = lapsbench("replay t/scenario.toml -q --json -", tmp_path).fine()
    assert policy.removeprefix("mine.py:") in {cell["policy"] for cell in json.loads(again.out)["cells"]}


def test_a_users_policy_gets_todays_patience(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    line = f'{SMALL.replace("0.95", "0.7")} --over "policy=fcfs|mine.py:waiting"'
    lapsbench(line, tmp_path).fine()
    tried = {each["policy"] for each in settings(tmp_path / "t")} - {"fcfs"}
    assert len(tried) == 1
    assert tried.pop().startswith("mine.py:waiting:patience_s=")


def test_what_a_server_needs_to_learn_the_same_is_among_its_flags(tmp_path):
    (tmp_path / "mine.py").write_text(LEARNING)
    lapsbench("traces make past.csv --requests 500 --seed 7", tmp_path).fine()
    line = f'{SMALL} --calibration past.csv --predict classes --over "policy=fcfs|mine.py:learnt"'
    lapsbench(line, tmp_path).fine()
    told = served(tmp_path / "t")
    assert (told["policy"], told["predict"], told["calibration"]) == ("mine.py:learnt", "classes", "past.csv")


def test_what_cannot_learn_is_one_line(tmp_path):
    (tmp_path / "mine.py").write_text(LEARNING.replace('"scale"]', '"other"]'))
    done = lapsbench(f'{SMALL} --over "policy=fcfs|mine.py:learnt"', tmp_path)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "policy 'learnt': cannot learn from the sample: KeyError: 'other'" in done.err


def test_an_edited_controller_is_another_question(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    line = f'{SMALL.replace("--budget 6", "--budget 2")} --over "drafts=fixed|mine.py:halves"'
    lapsbench(line, tmp_path).fine()
    (tmp_path / "mine.py").write_text(MINE.replace("share=0.5", "share=0.6"))
    assert "holds the trials of another question" in lapsbench(line, tmp_path).err
