"""Profiles on disk: what is written reads back, what is shipped is what it says, what is broken is told in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lapsbench import schema
from lapsbench.core import Bank, Costs, Profile
from lapsbench.errors import LapsbenchError
from lapsbench.store.linear import Linear, tabulate, together
from lapsbench.store.profile import Repeats, open_profile, write_profile
from lapsbench.store.published import NAME, published

COST = {
    "component": ["verify", "verify", "draft"],
    "batch_size": [1, 2, 1],
    "query_tokens": [1, 1, 1],
    "context_tokens": [0, 0, 0],
    "time_s": [0.010, 0.012, 0.001],
}
ACCEPTANCE = {
    "prompt_id": ["a", "b"],
    "category": ["chat", "chat"],
    "prompt_tokens": [5, 7],
    "output_tokens": [3, 2],
    "accept_runs": [[2, 1, 0], [0, 3]],
}


def write(folder, cost=COST, acceptance=ACCEPTANCE, metadata=None):
    """Write a profile the way someone else would: no percentiles, no schema tag."""
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(cost).replace_schema_metadata(metadata), folder / "cost.parquet")
    if acceptance is not None:
        pq.write_table(pa.table(acceptance).replace_schema_metadata(metadata), folder / "acceptance.parquet")
    return str(folder)


def stated(value):
    return {schema.PROVENANCE: json.dumps({"draft_tokens_max": value}).encode()}


def tiny(draft_tokens_max=8):
    costs = together([tabulate("verify", Linear(0.01, 0.001), (1, 2), (1, 4)), tabulate("overhead", Linear(0.002))])
    names = np.array(["a", "b"], dtype=object)
    sizes = np.array([3, 2], dtype=np.int32)
    runs = np.array([2, 1, 0, 0, 3], dtype=np.uint8)
    bank = Bank(names, names, sizes, sizes, np.array([0, 3, 5]), runs, draft_tokens_max)
    return Profile("tiny", costs, bank, {"label": "hand-made", "seed": 1})


def test_a_written_profile_reads_back(tmp_path):
    profile = tiny()
    write_profile(tmp_path / "tiny", profile)
    back = open_profile(str(tmp_path / "tiny"))
    assert (back.name, back.label, back.bank.draft_tokens_max) == ("tiny", "hand-made", 8)
    assert back.costs.verify_tokens is back.costs.chunk_context_tokens is None
    for name in Costs.__slots__[:5]:
        assert getattr(back.costs, name).tolist() == getattr(profile.costs, name).tolist()
    for name in ("prompt_id", "category", "prompt_tokens", "output_tokens", "offsets", "accept_runs"):
        assert getattr(back.bank, name).tolist() == getattr(profile.bank, name).tolist()
        assert getattr(back.bank, name).dtype == getattr(profile.bank, name).dtype


def test_the_drafts_that_were_made_read_back(tmp_path):
    profile = tiny()
    drafted = np.array([3, 2, 0, 1, 3], np.uint8)
    write_profile(tmp_path / "made", replace(profile, bank=replace(profile.bank, drafted=drafted)))
    assert open_profile(str(tmp_path / "made")).bank.drafted.tolist() == drafted.tolist()
    write_profile(tmp_path / "plain", profile)
    assert open_profile(str(tmp_path / "plain")).bank.drafted is None


def test_a_profile_may_have_costs_only(tmp_path):
    write_profile(tmp_path, replace(tiny(), bank=None))
    assert open_profile(str(tmp_path)).bank is None


def test_written_files_follow_the_contract(tmp_path):
    write_profile(tmp_path, tiny())
    cost, acceptance = pq.read_table(tmp_path / "cost.parquet"), pq.read_table(tmp_path / "acceptance.parquet")
    assert cost.schema.remove_metadata() == schema.COST
    assert acceptance.schema.remove_metadata() == schema.ACCEPTANCE
    assert cost.schema.metadata[b"lapsbench.schema"] == b"cost/2"
    assert acceptance.schema.metadata[b"lapsbench.schema"] == b"acceptance/1"
    for table in (cost, acceptance):
        assert schema.provenance(table) == {"label": "hand-made", "seed": 1, "draft_tokens_max": 8}


def test_costs_without_repeats_are_marked_as_not_measured(tmp_path):
    write_profile(tmp_path, tiny())
    cost = pq.read_table(tmp_path / "cost.parquet")
    assert cost["time_p10_s"] == cost["time_p90_s"] == cost["time_s"]
    assert set(cost["repeats"].to_pylist()) == {0}


def test_measured_spread_is_kept(tmp_path):
    profile = tiny()
    time_s = profile.costs.time_s
    repeats = np.full(len(time_s), 30, dtype=np.int32)
    write_profile(tmp_path, profile, Repeats(time_s * 0.9, time_s * 1.2, repeats))
    cost = pq.read_table(tmp_path / "cost.parquet")
    assert cost["time_p90_s"].to_pylist() == (time_s * 1.2).tolist()
    assert set(cost["repeats"].to_pylist()) == {30}


def test_a_profile_from_elsewhere_needs_no_tag_and_no_percentiles(tmp_path):
    profile = open_profile(write(tmp_path / "other"))
    assert profile.costs.time_s.tolist() == COST["time_s"]
    assert profile.label == "provenance unknown"


def test_draft_tokens_max_not_told_is_the_largest_run_and_noted(tmp_path):
    profile = open_profile(write(tmp_path / "other"))
    assert profile.bank.draft_tokens_max == 3
    assert "largest accept_runs" in profile.provenance["draft_tokens_max_from"]


def test_draft_tokens_max_is_read_from_the_provenance(tmp_path):
    profile = open_profile(write(tmp_path / "other", metadata=stated(5)))
    assert profile.bank.draft_tokens_max == 5
    assert "draft_tokens_max_from" not in profile.provenance


def test_recordings_in_many_row_groups_read_as_one_bank(tmp_path):
    folder = write(tmp_path / "groups")
    pq.write_table(pa.table(ACCEPTANCE), tmp_path / "groups/acceptance.parquet", row_group_size=1)
    bank = open_profile(folder).bank
    assert bank.offsets.tolist() == [0, 3, 5]
    assert bank.accept_runs.tolist() == [2, 1, 0, 0, 3]


BAD_COSTS = {
    "unknown component": ({"component": ["verify", "verfy", "draft"]}, "column component, row 2: verfy is not a"),
    "no verify": ({"component": ["prefill", "prefill", "draft"]}, "no row has the component 'verify'"),
    "NaN": ({"time_s": [0.01, 0.012, float("nan")]}, "column time_s, row 3: nan is not a time"),
    "infinite": ({"time_s": [float("inf"), 0.012, 0.001]}, "column time_s, row 1: inf"),
    "negative": ({"time_s": [0.01, -0.5, 0.001]}, "column time_s, row 2: -0.5"),
    "zero": ({"time_s": [0.01, 0.0, 0.001]}, "column time_s, row 2: 0.0"),
    "null time": ({"time_s": [0.01, None, 0.001]}, "column time_s, row 2: is null"),
    "null component": ({"component": ["verify", None, "draft"]}, "column component, row 2: is null"),
    "batch 0": ({"batch_size": [1, 0, 1]}, "column batch_size, row 2: 0 is too small; try 1 or more"),
    "query 0": ({"query_tokens": [1, 1, 0]}, "column query_tokens, row 3: 0 is too small"),
    "context -1": ({"context_tokens": [0, -1, 0]}, "column context_tokens, row 2: -1 is too small"),
    "twice": ({"batch_size": [1, 1, 1]}, "column component, row 2: 'verify' repeats the grid point of row 1"),
    "a fraction": ({"batch_size": [1.0, 2.5, 1.0]}, "column 'batch_size' does not read as int32"),
    "empty": ({name: pa.array([], pa.array(values).type) for name, values in COST.items()}, "component 'verify'"),
}
BAD_ACCEPTANCE = {
    "too few runs": ({"accept_runs": [[2, 1, 0], [0]]}, "row 2: holds 1 values for 2 output tokens"),
    "no runs": ({"accept_runs": [[], [0, 3]]}, "row 1: holds 0 values for 3 output tokens"),
    "null runs": ({"accept_runs": [[2, 1, 0], None]}, "column accept_runs, row 2: is null"),
    "a null run": ({"accept_runs": [[2, 1, 0], [0, None]]}, "column accept_runs, row 2: holds a null"),
    "a null run first": ({"accept_runs": [[None, 1, 0], [0, 1]]}, "column accept_runs, row 1: holds a null"),
    "negative run": ({"accept_runs": [[2, 1, -1], [0, 3]]}, "column 'accept_runs' does not read as"),
    "drafts short": ({"drafted": [[2, 2], [3, 3]]}, "column drafted, row 1: holds 2 values for 3 output tokens"),
    "fewer drafts": ({"drafted": [[2, 2, 2], [3, 2]]}, "column drafted, row 2: 2 is less than accept_runs somewhere"),
    "output 0": ({"output_tokens": [3, 0], "accept_runs": [[2, 1, 0], []]}, "column output_tokens, row 2: 0"),
    "prompt 0": ({"prompt_tokens": [0, 7]}, "column prompt_tokens, row 1: 0"),
    "null prompt_id": ({"prompt_id": ["a", None]}, "column prompt_id, row 2: is null"),
    "null category": ({"category": [None, "chat"]}, "column category, row 1: is null"),
    "empty": ({name: pa.array([], pa.array(values).type) for name, values in ACCEPTANCE.items()}, "no recordings"),
}


def message(source):
    with pytest.raises(LapsbenchError) as caught:
        open_profile(source)
    text = str(caught.value)
    assert "\n" not in text
    assert "; try " in text
    return text


@pytest.mark.parametrize(("change", "told"), BAD_COSTS.values(), ids=BAD_COSTS)
def test_a_bad_cost_table_is_told_in_one_line(tmp_path, change, told):
    text = message(write(tmp_path / "bad", cost=COST | change))
    assert "cost.parquet" in text
    assert told in text


@pytest.mark.parametrize(("change", "told"), BAD_ACCEPTANCE.values(), ids=BAD_ACCEPTANCE)
def test_a_bad_bank_is_told_in_one_line(tmp_path, change, told):
    text = message(write(tmp_path / "bad", acceptance=ACCEPTANCE | change))
    assert "acceptance.parquet" in text
    assert told in text


@pytest.mark.parametrize("column", [*COST, *ACCEPTANCE])
def test_a_missing_column_is_named(tmp_path, column):
    cost = {name: values for name, values in COST.items() if name != column}
    acceptance = {name: values for name, values in ACCEPTANCE.items() if name != column}
    assert f"column '{column}' is missing" in message(write(tmp_path / "bad", cost, acceptance))


def test_runs_above_draft_tokens_max_contradict_it(tmp_path):
    text = message(write(tmp_path / "bad", metadata=stated(2)))
    assert "row 2: 3 is more than draft_tokens_max = 2" in text


@pytest.mark.parametrize("value", ["eight", -1, 256, 2.5])
def test_a_draft_tokens_max_that_is_no_number_is_refused(tmp_path, value):
    assert "draft_tokens_max is" in message(write(tmp_path / "bad", metadata=stated(value)))


def test_provenance_that_is_not_json_is_refused(tmp_path):
    assert "not JSON" in message(write(tmp_path / "bad", metadata={schema.PROVENANCE: b"{seed"}))


@pytest.mark.parametrize("source", ["h100", "", "no/such/folder", "x" * 5000, "a\0b"])
def test_an_unknown_profile_is_told_with_the_known_ones(source):
    assert NAME in message(source)


def test_a_file_is_not_a_profile(tmp_path):
    (tmp_path / "cost.parquet").write_bytes(b"")
    assert "is a file" in message(str(tmp_path / "cost.parquet"))


def test_a_folder_without_costs_is_told(tmp_path):
    text = message(str(tmp_path))
    assert "cost.parquet" in text
    assert "no such file" in text


@pytest.mark.parametrize("file", ["cost.parquet", "acceptance.parquet"])
@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_what_is_not_parquet_is_told(tmp_path, file, damage):
    folder = write(tmp_path / "bad")
    whole = (tmp_path / "bad" / file).read_bytes()
    (tmp_path / "bad" / file).write_bytes({"truncated": whole[:-20], "text": b"a,b\n1,2\n", "empty": b""}[damage])
    assert f"{file}: not a readable Parquet file" in message(folder)


def test_one_file_in_place_of_the_other_is_told(tmp_path):
    write_profile(tmp_path, tiny())
    shutil.copy(tmp_path / "cost.parquet", tmp_path / "acceptance.parquet")
    assert "holds 'cost/2'" in message(str(tmp_path))


def test_the_shipped_profile_says_what_it_is_worth():
    profile = open_profile(NAME)
    assert profile.label == "published figures, not measured here"
    assert "2601.11580" in profile.provenance["source"]
    assert "derived, not measured" in str(profile.provenance["formulas"]["swap_out, swap_in"])
    assert profile.bank.draft_tokens_max == 8


def test_the_shipped_costs_are_the_published_formulas():
    costs = open_profile(NAME).costs
    batch, context = costs.batch_size.astype(float), costs.context_tokens.astype(float)
    tokens, kv = batch * costs.query_tokens, batch * context
    target = 5.88590713e-3 + 2.10103129e-5 * tokens + 3.92645679e-8 * kv
    expected = {
        "verify": target,
        "prefill": target,
        "draft": 2.13526175e-3 + 8.41429603e-7 * tokens + 2.37768493e-9 * kv,
        "overhead": np.full(len(tokens), 1.20683946e-3),
        "swap_out": context * 131072 / 50e9,
        "swap_in": context * 131072 / 50e9,
    }
    assert set(costs.component) == set(expected)
    for component, time_s in expected.items():
        rows = costs.component == component
        np.testing.assert_allclose(costs.time_s[rows], time_s[rows], rtol=1e-12)


def test_the_shipped_grid_is_full():
    costs = open_profile(NAME).costs
    for component in set(costs.component):
        rows = costs.component == component
        axes = (costs.batch_size[rows], costs.query_tokens[rows], costs.context_tokens[rows])
        assert rows.sum() == np.prod([len(np.unique(axis)) for axis in axes])


def test_the_shipped_files_are_what_the_command_makes(tmp_path):
    write_profile(tmp_path / NAME, published())
    shipped, made = open_profile(NAME), open_profile(str(tmp_path / NAME))
    assert made.provenance == shipped.provenance
    assert made.costs.time_s.tolist() == pytest.approx(shipped.costs.time_s.tolist(), rel=1e-12)
    # another processor's exp() may differ in the last bit, and so, rarely, one match
    assert np.mean(made.bank.accept_runs == shipped.bank.accept_runs) > 0.999


def test_the_command_makes_the_same_bytes_every_time(tmp_path):
    for folder in ("once", "again"):
        write_profile(tmp_path / folder, published())
    for file in ("cost.parquet", "acceptance.parquet"):
        assert (tmp_path / "once" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
