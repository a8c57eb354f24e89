"""A bank that says it was recorded with more drafts a round than its runs look like."""

from __future__ import annotations

import json

import numpy as np
import pytest
from commands import lapsbench

from lapsbench.core import Bank
from lapsbench.store.profile import open_profile, write_profile

SHIPPED = open_profile("h100-llama3.1-8b-eagle3")
SAID = "recorded runs are 3 drafts long and none is longer"


@pytest.fixture
def recorded(tmp_path):
    """Make a profile of the shipped one whose runs are as told."""

    def make(change):
        bank = SHIPPED.bank
        columns = {name: getattr(bank, name) for name in Bank.__dataclass_fields__}
        runs = change(bank.accept_runs.astype(int)).astype(np.uint8)
        profile = type(SHIPPED)("mine", SHIPPED.costs, Bank(**{**columns, "accept_runs": runs}), SHIPPED.provenance)
        (tmp_path / "mine").mkdir(exist_ok=True)
        write_profile(tmp_path / "mine", profile)
        return lambda flags: lapsbench(f"replay --profile mine --limit 100 --repeats 1 --policy fcfs {flags}", tmp_path)

    return make


def cut(runs):
    return np.minimum(runs, 3)


def test_more_drafts_than_a_bank_looks_recorded_with_is_remarked(recorded, tmp_path):
    replay = recorded(cut)
    said = [line for line in replay("--draft-tokens 5").fine().err.splitlines() if SAID in line]
    assert len(said) == 1
    assert said[0].startswith("acceptance of mine: ")
    assert said[0].endswith("with 5 a round more may be accepted than it says; try --draft-tokens 3")
    assert "is longer: it looks cut there" in lapsbench("profiles describe mine", tmp_path).fine().out
    line = "tune --profile mine --limit 600 --repeats 1 --max-batch 8 --budget 2 --over draft_tokens=1..6 --out t"
    assert SAID in lapsbench(line, tmp_path).fine().err


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        pytest.param(cut, "--draft-tokens 3", id="no more drafts than that"),
        pytest.param(lambda runs: runs, "--draft-tokens 8", id="cut where it says"),
        pytest.param(
            lambda runs: np.concatenate([[4, 4], cut(runs[2:])]),
            "--draft-tokens 6",
            id="hardly a run is as long as the longest",
        ),
    ],
)
def test_a_bank_that_may_be_what_it_says_is_not(recorded, change, flags):
    assert "recorded runs" not in recorded(change)(flags).fine().err


def test_a_file_that_does_not_say_is_refused_beyond_its_longest_run(tmp_path):
    answer = {"accept_lengths": [4, 1, 3, 2, 4], "decoding_steps": [5], "new_tokens": [14], "wall_time": [1.0]}
    record = {"question_id": 1, "category": "a", "choices": [answer]}
    (tmp_path / "mine.jsonl").write_text(f"{json.dumps(record)}\n" * 40)
    done = lapsbench("replay --acceptance mine.jsonl --limit 50 --repeats 1 --draft-tokens 5 -q", tmp_path)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "recorded acceptance up to 3 draft tokens; 5 would understate it" in done.err
