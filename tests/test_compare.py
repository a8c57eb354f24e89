"""Comparing runs: what it calls better, same, worse and undecided, when it fails a gate, and what it refuses."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest
from commands import lapsbench
from runs import replayed, slowed
from test_metrics import cell

from lapsbench.errors import UsageError
from lapsbench.metrics.change import Pair, change
from lapsbench.metrics.gate import parse_gate

GATE = '--fail-if "jct_mean > +5%"'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run `main`, `slow` with laps-sd slowed by 10 %, and a run of few requests."""
    here = tmp_path_factory.mktemp("compare")
    policies = ("fcfs", "laps-sd")
    replayed(here, "main", "--load 0.9 --limit 1200 --max-batch 8 --repeats 2", policies)
    replayed(here, "few", "--load 0.9 --limit 60 --max-batch 4 --repeats 2", policies)
    replayed(here, "one", "--load 0.9 --limit 1200 --max-batch 8 --repeats 1", policies)
    slowed(here, "main", "slow", "laps-sd", 1.1)
    slowed(here, "few", "few-slow", "laps-sd", 1.1)
    return here


def verdicts(text):
    """Return policy, metric and verdict of every row of the printed table."""
    rows = text.split("---\n")[1].split("\n\n")[0].splitlines()
    return {(row.split()[0], row.split()[2]): row.split()[-1] for row in rows}


def test_a_run_is_the_same_as_itself(folder):
    done = lapsbench(f"compare main main {GATE}", folder).fine()
    assert set(verdicts(done.out).values()) == {"same"}
    assert "every request fared identically" in done.out
    assert "passed" in done.out


def test_few_requests_that_fared_identically_are_the_same(folder):
    assert set(verdicts(lapsbench("compare few few", folder).fine().out).values()) == {"same"}


def test_a_policy_slowed_by_a_tenth_fails_the_gate(folder):
    done = lapsbench(f"compare main slow {GATE}", folder)
    assert done.code == 3
    assert done.err.startswith("error: gate failed: jct_mean > +5%: jct_mean of laps-sd at load 0.9 changed by +10.0 %")
    found = verdicts(done.out)
    assert found["laps-sd", "jct_mean"] == "worse"
    assert found["fcfs", "jct_mean"] == "same"


def test_and_its_return_is_better(folder):
    done = lapsbench(f"compare slow main {GATE}", folder).fine()
    assert verdicts(done.out)["laps-sd", "jct_mean"] == "better"


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        ("fcfs: jct_mean > +5%", 0),
        ("laps-sd: jct_mean > +5%", 3),
        ("jct_mean_s > 9.9%", 3),
        ("jct_mean > +10.1%", 0),
        ("jct_p99 > +5%", 3),
        ("throughput < -50%", 0),
    ],
)
def test_a_gate_is_for_a_policy_a_metric_and_a_limit(folder, gate, code):
    assert lapsbench(f'compare main slow --fail-if "{gate}"', folder).code == code


def test_too_few_requests_are_undecided_and_fail_nothing(folder):
    done = lapsbench(f"compare few few-slow {GATE}", folder).fine()
    assert verdicts(done.out)["laps-sd", "jct_mean"] == "undecided"
    assert "only 60 requests a seed; 200 can tell" in done.out


def test_an_interval_across_the_limit_is_undecided(folder):
    # half of the requests at twice the latency, in long stretches: +50 % more or less, and far from sure
    stretch = pl.when(pl.col("request") // 300 % 2 == 0).then(2.0).otherwise(1.0)
    slowed(folder, "one", "torn", "fcfs", stretch)
    done = lapsbench('compare one torn --fail-if "fcfs: jct_mean > +45%" --fail-if "fcfs: jct_p99 > +80%"', folder)
    assert done.code == 0
    assert "undecided  fcfs: jct_mean > +45%" in done.out


def test_one_seed_gives_intervals_from_blocks_also_for_quantiles(folder):
    slowed(folder, "one", "one-slow", "fcfs", 1.1)
    assert lapsbench('compare one one-slow --fail-if "fcfs: jct_p99 > +5%"', folder).code == 3


def test_seeds_that_redraw_nothing_count_as_one(folder):
    options = "--load 0.9 --limit 300 --max-batch 8 --draft-tokens 0 --predict oracle --repeats 3"
    replayed(folder, "still", options, ("fcfs", "sjf"))
    slowed(folder, "still", "noisy", "fcfs", 1 + 0.3 * (pl.col("request") % 7 == 0))
    row = next(line for line in lapsbench("compare still noisy", folder).fine().out.splitlines() if "fcfs" in line)
    low, high = row.split()[-3:-1]
    assert float(low) < float(high)  # three copies of one run would have made it a point
    text = lapsbench(
        "replay --load 0.9 --limit 300 --draft-tokens 0 --max-batch 8 --predict oracle --repeats 3 --policy fcfs "
        "--policy sjf",
        folder,
    )
    assert "paired over 15 blocks of consecutive arrivals" in text.fine().out


def test_different_work_is_refused_and_said(folder):
    replayed(folder, "other", "--load 0.8 --limit 1200 --max-batch 8 --repeats 2", ("fcfs", "laps-sd"))
    done = lapsbench("compare main other", folder)
    assert done.code == 1
    assert "no policy, load and seed in common" in done.err
    replayed(folder, "big", "--load 0.9 --limit 1200 --max-batch 16 --repeats 2", ("fcfs", "laps-sd"))
    done = lapsbench("compare main big", folder)
    assert done.code == 1
    assert "are different work: requests arrive at other times (fcfs, load 0.9, seed 0)" in done.err
    assert "--allow-different-work" in done.err
    allowed = lapsbench("compare main big --allow-different-work", folder).fine().out
    assert "different work: requests arrive at other times" in allowed
    assert "max_batch: 8 before, 16 after" in allowed


def test_other_acceptance_is_other_work_but_more_drafts_are_a_setting(folder):
    replayed(folder, "ideal", "--engine ideal --load 0.9 --limit 300 --max-batch 8 --repeats 2", ("fcfs", "laps-sd"))
    rows = pl.read_parquet(folder / "ideal/requests.parquet")
    shutil.copytree(folder / "ideal", folder / "lucky")
    rows.with_columns(rounds=pl.col("rounds") - (pl.col("rounds") > 5)).write_parquet(folder / "lucky/requests.parquet")
    done = lapsbench("compare ideal lucky", folder)
    assert "are different work: requests accept other drafts" in done.err
    options = "--rate 4 --limit 300 --max-batch 8 --repeats 2"
    for drafts in (2, 3):
        replayed(folder, f"k{drafts}", f"{options} --draft-tokens {drafts}", ("fcfs",))
    assert "draft_tokens: 2 before, 3 after" in lapsbench("compare k2 k3", folder).fine().out


def test_what_differs_is_listed(folder):
    manifest = json.loads((folder / "slow/manifest.json").read_text())
    shutil.copytree(folder / "slow", folder / "edited")
    manifest["versions"]["numpy"] = "0.1"
    manifest["profile"]["sha256_32"] = "f00d"
    (folder / "edited/manifest.json").write_text(json.dumps(manifest))
    out = lapsbench("compare main edited", folder).fine().out
    assert "version of numpy: " in out
    assert "hash of the profile: " in out
    assert "f00d after" in out


def test_markdown_is_for_a_pull_request(folder):
    done = lapsbench(f"compare main slow {GATE} --markdown -", folder)
    assert done.code == 3
    assert "| policy | load | metric |" in done.out
    assert "| laps-sd | 0.9 | jct\\_mean s |" in done.out
    assert "**worse**" in done.out
    assert "- **failed** jct\\_mean > +5%" in done.out
    again = lapsbench("compare main slow --markdown c.md", folder).fine()
    assert "policy  " in again.out
    assert (folder / "c.md").read_text().startswith("**slow against main")


BAD = {
    'compare main slow --fail-if "jct_mean"': (2, "'jct_mean' is not a gate"),
    'compare main slow --fail-if "jct_p98 > +5%"': (2, "no gate on 'jct_p98'"),
    'compare main slow --fail-if "steps > +5%"': (2, "no gate on 'steps'"),
    'compare main slow --fail-if "jct_mean > 1.2.3%"': (2, "is not a gate"),
    'compare main slow --fail-if "sjf: jct_mean > +5%"': (2, "sjf is not in both runs"),
    "compare main nowhere": (1, "nowhere: no such run folder"),
    "compare main .": (1, "is not a run folder"),
    "compare main": (2, "Missing argument"),
    "compare main slow --markdown /nowhere/x.md": (1, "--markdown /nowhere/x.md: cannot write"),
}


@pytest.mark.parametrize(("line", "wanted"), BAD.items())
def test_what_cannot_be_compared_is_said_in_one_line(folder, line, wanted):
    done = lapsbench(line, folder)
    assert (done.code, done.out) == (wanted[0], "")
    assert wanted[1] in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("damage", ["empty", "mixed", "column", "null"])
def test_damaged_requests_are_one_line(folder, tmp_path, damage):
    shutil.copytree(folder / "main", tmp_path / "run")
    path = tmp_path / "run/requests.parquet"
    rows = pl.read_parquet(path)
    match damage:
        case "empty":
            rows = rows.head(0)
        case "mixed":
            rows = rows.sort("request")
        case "column":
            rows = rows.drop("finished_s")
        case "null":
            rows = rows.with_columns(pl.lit(None, pl.Float64).alias("arrival_s"))
    rows.write_parquet(path)
    done = lapsbench(f"compare {folder / 'main'} run", tmp_path)
    assert done.code == 1
    assert "requests.parquet" in done.err
    assert done.err.count("\n") == 1


def test_gates_are_read():
    gate = parse_gate(" laps-sd:eps=0 : jct_p99 > +5 % ")
    assert (gate.policy, gate.metric, gate.above, gate.limit) == ("laps-sd:eps=0", "jct_p99_s", True, 1.05)
    assert parse_gate("oracle-srpt-tokens*: goodput < -2.5%").policy == "oracle-srpt-tokens"
    assert parse_gate("goodput < -2.5%").metric == "goodput_rps"
    with pytest.raises(UsageError, match="one of: jct_mean, jct_p50"):
        parse_gate("offered > 1%")


def test_a_change_within_one_percent_is_no_change():
    before = [cell(seed=seed, count=1000) for seed in range(3)]
    after = [cell(seed=seed, count=1000, scale=1.002) for seed in range(3)]
    found = change([Pair(*pair, identical=False) for pair in zip(before, after, strict=True)], "jct_mean_s")
    assert found.verdict == "same"
    assert found.ratio == pytest.approx(1.002)


def test_more_is_better_for_throughput():
    before = [cell(seed=seed, count=1000) for seed in range(3)]
    after = [cell(seed=seed, count=1000, scale=0.8) for seed in range(3)]
    pairs = [Pair(*pair, identical=False) for pair in zip(before, after, strict=True)]
    assert change(pairs, "throughput_rps").verdict == "better"
    assert change(pairs, "jct_mean_s").verdict == "better"
    assert change(pairs, "recomputed_tokens").verdict == "undecided"
    assert np.isfinite(change(pairs, "jct_p99_s").low)
