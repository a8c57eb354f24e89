"""Steps with rounds and prompt tokens in one pass: the profile's `mixed` rows, where it has them, price them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import lapsbench
from specimens import VARIANTS
from strategies import Scenario, differences, grid, workload
from test_twin import check
from vllm_cases import cases

from lapsbench.core import Engine, Profile
from lapsbench.policies.registry import find
from lapsbench.sim.cost import step_costs
from lapsbench.sim.reference.prices import Prices
from lapsbench.store.profile import open_profile, write_profile

PLAIN = [
    ("verify", 1, 1, 0, 1.0),
    ("verify", 1, 4, 0, 2.0),
    ("draft", 1, 3, 0, 0.25),
    ("prefill", 1, 1, 0, 1.0),
    ("prefill", 1, 101, 0, 11.0),
    ("overhead", 1, 1, 0, 0.5),
]
MIXED = [
    ("mixed", batch, tokens, context, batch + 0.1 * tokens + 0.01 * context + verify + 0.001 * cached, verify, cached)
    for batch in (1, 5)
    for verify in (1, 4)
    for tokens in (1, 101)
    for cached in (0, 100)
    for context in (0, 50)
]


def profile(rows=(*PLAIN, *MIXED)):
    return Profile("by hand", grid(rows), None)


def price(engine, contexts, chunks, rows=(*PLAIN, *MIXED)):
    prices, k = Prices(step_costs(profile(rows), engine), engine), engine.draft_tokens
    return prices.step(len(contexts) + len(chunks), contexts, chunks, most=k, mean=k), prices


def test_a_measured_point_costs_what_was_measured():
    for batch in (1, 5):
        for k in (0, 3):
            engine = Engine(draft_tokens=k)
            for tokens, cached, context in [(1, 0, 0), (101, 100, 50), (101, 0, 50)]:
                expected = batch + 0.1 * tokens + 0.01 * context + (k + 1) + 0.001 * cached
                found, prices = price(engine, [context] * batch, [(tokens, cached)])
                assert found == pytest.approx(0.5 + 0.25 * (k > 0) + expected)
                assert prices.lookups_beyond == 0


def test_chunks_count_together_and_their_context_token_by_token():
    found, _ = price(Engine(draft_tokens=0), [10, 30], [(20, 0), (60, 80)])
    assert found == pytest.approx(0.5 + 2 + 0.1 * 80 + 0.01 * 20 + 1 + 0.001 * 60)


def test_steps_that_are_not_mixed_keep_their_prices():
    for contexts, chunks in [([10, 30], []), ([], [(20, 0), (60, 80)])]:
        assert (
            price(Engine(draft_tokens=0), contexts, chunks)[0]
            == price(Engine(draft_tokens=0), contexts, chunks, PLAIN)[0]
        )


@pytest.mark.parametrize(
    ("contexts", "chunks", "beyond"),
    [
        ([10], [(50, 50)], 0),
        ([60], [(50, 50)], 1),
        ([10], [(90, 0), (12, 0)], 1),
        ([10], [(5, 101)], 1),
        ([1] * 6, [(5, 0)], 1),
    ],
)
def test_look_ups_beyond_the_mixed_grid_are_counted(contexts, chunks, beyond):
    _, prices = price(Engine(draft_tokens=0), contexts, chunks)
    assert (prices.lookups, prices.lookups_beyond) == (2, beyond)  # overhead, and rounds and chunks together


@pytest.mark.parametrize("rules", ["ideal", "vllm"])
@pytest.mark.parametrize("drafts", ["", "by-batch", "per-request"])
def test_a_replay_pays_for_mixed_steps_what_the_profile_says(rules, drafts):
    more = {"drafts": drafts, "schedule": "1-2:3,3-:1" if drafts == "by-batch" else ""}
    engine = Engine(max_batch=4, draft_tokens=3, rules=rules, prefill_budget=0 if rules == "vllm" else 40, **more)
    work = workload(np.arange(12) * 1.5, [9, 3, 12] * 4, prompt_tokens=[40, 90, 7] * 4, accept_runs=(0, 3, 1, 2))
    dear = [row if row[0] != "mixed" else (*row[:4], 7 * row[4], *row[5:]) for row in (*PLAIN, *MIXED)]
    makespans = []
    for rows in (PLAIN, (*PLAIN, *MIXED), dear):
        scenario = Scenario(work, engine, profile(rows))
        ours, twins = (replay(find("fcfs")) for replay in (scenario.replay, scenario.twin))
        assert not differences(ours, twins)
        makespans.append(ours.makespan_s)
    assert makespans[0] != makespans[1] < makespans[2]


@pytest.mark.parametrize("spec", ["fcfs", "srpt", VARIANTS[0]])
def test_kernel_equals_twin_under_vllms_rules_whatever_mixed_steps_cost(spec):
    check(find(spec), 60, cases())


def saved(folder, rows=(*PLAIN, *MIXED)):
    write_profile(folder, profile(rows))
    return folder / "cost.parquet"


def test_a_written_profile_reads_back_with_its_mixed_rows(tmp_path):
    path = saved(tmp_path / "p")
    back = open_profile(str(tmp_path / "p")).costs
    for name in ("batch_size", "query_tokens", "verify_tokens", "chunk_context_tokens", "time_s"):
        assert getattr(back, name).tolist() == getattr(profile().costs, name).tolist(), name
    table = pq.read_table(path)
    assert table["verify_tokens"].null_count == table["chunk_context_tokens"].null_count == len(PLAIN)


def test_a_profile_of_the_first_version_reads_as_ever(tmp_path):
    path = saved(tmp_path / "p", PLAIN)
    table = pq.read_table(path).drop_columns(["verify_tokens", "chunk_context_tokens"])
    pq.write_table(table.replace_schema_metadata({b"lapsbench.schema": b"cost/1"}), path)
    assert open_profile(str(tmp_path / "p")).costs.verify_tokens is None


@pytest.mark.parametrize(
    ("column", "row", "value", "said"),
    [
        (
            "verify_tokens",
            len(PLAIN),
            None,
            f"column verify_tokens, row {len(PLAIN) + 1}: null is no size of a 'mixed' row",
        ),
        ("verify_tokens", len(PLAIN), 0, "column verify_tokens"),
        ("chunk_context_tokens", len(PLAIN) + 2, None, "column chunk_context_tokens"),
        ("verify_tokens", 0, 3, "3 is not for this component"),
        ("chunk_context_tokens", len(PLAIN) + 2, 0, "repeats the grid point"),
        ("", 0, None, "column 'verify_tokens' is missing"),
    ],
)
def test_bad_mixed_rows_are_one_line(tmp_path, column, row, value, said):
    path = saved(tmp_path / "p")
    table = pq.read_table(path)
    if column:
        values = table[column].to_pylist()
        values[row] = value
        table = table.set_column(table.schema.get_field_index(column), column, pa.array(values, pa.int32()))
    else:
        table = table.drop_columns(["verify_tokens"])
    pq.write_table(table, path)
    done = lapsbench("profiles describe p", tmp_path)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert said in done.err


def test_describe_shows_the_mixed_grid(tmp_path):
    saved(tmp_path / "p")
    done = lapsbench("profiles describe p --json -", tmp_path)
    expected = {"batch": [1, 5], "query": [1, 101], "context": [0, 50], "verify": [1, 4], "chunk_context": [0, 100]}
    assert json.loads(done.out)["grid"]["mixed"] == expected
    assert "chunk_context" in lapsbench("profiles describe p", tmp_path).out


def test_mixed_rows_come_in_as_csv_too(tmp_path):
    names = "component,batch_size,query_tokens,context_tokens,time_s,verify_tokens,chunk_context_tokens"
    lines = [",".join(map(str, (*row, "", "")[:7])) for row in (*PLAIN, *MIXED)]
    (tmp_path / "steps.csv").write_text("\n".join([names, *lines]) + "\n")
    done = lapsbench("profiles import --cost steps.csv --out p", tmp_path)
    assert done.code == 0, done.err
    assert open_profile(str(tmp_path / "p")).costs.verify_tokens.tolist() == profile().costs.verify_tokens.tolist()
