"""Traces of millions of requests, in small: what is done in parts is what is done at once."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from commands import lapsbench
from hypothesis import example, given, settings
from hypothesis import strategies as st
from runs import summary
from strategies import Scenario, differences, engines, scenarios
from vllm_cases import cases

from lapsbench import boiling, core, reading
from lapsbench import replay as replaying
from lapsbench.core import UNFINISHED
from lapsbench.metrics import in_parts, saturation
from lapsbench.metrics.sketch import ERROR, Sketch
from lapsbench.policies.registry import find
from lapsbench.sim import alone, kernel, prepare, reference, setup, sweep
from lapsbench.store import run, saved

EXAMPLES = 30
DRAWN = {"ideal": scenarios(), "vllm": cases()}


def drawn(scenarios):
    ours = settings(deadline=None, derandomize=True, database=None, max_examples=EXAMPLES)
    return lambda test: ours(given(scenarios)(test))


def burst(scenario: Scenario) -> Scenario:
    """Everybody is there at 0."""
    return replace(scenario, work=replace(scenario.work, arrival_s=np.zeros(len(scenario.work))))


@pytest.mark.parametrize(
    "scenarios", [scenarios(engine=engines(kv_tokens=(0,))), cases()], ids=["ideal, memory unlimited", "vllm"]
)
def test_fcfs_of_a_burst_is_the_same_with_most_of_it_outside(scenarios):
    # capacity is measured so: of 27 million requests that are there at 0, a few hundred lie in memory
    fcfs = find("fcfs")

    @drawn(scenarios)
    def same(scenario):
        work, engine, _, costs, setup = burst(scenario).ready(fcfs)
        most = 4 * engine.max_batch
        few = replace(setup, wait_most=most, live_most=most + 2 * engine.max_batch)
        whole, windowed = (kernel.replay(work, engine, fcfs, costs, each) for each in (setup, few))
        assert not differences(whole, windowed)

    same()


def test_each_alone_is_the_same_on_several_cores(monkeypatch):
    @drawn(cases())
    def same(scenario):
        work, engine, _, costs, _ = scenario.ready(find("fcfs"))
        monkeypatch.setattr(alone, "SHARED", 1 << 40)
        one = alone.solo(work, engine, costs)
        monkeypatch.setattr(alone, "SHARED", 0)
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
        other = alone.solo(work, engine, costs)
        for name in ("alone_s", "rounds", "prefill_s"):
            assert np.array_equal(getattr(one, name), getattr(other, name))

    same()


@pytest.mark.parametrize("rules", DRAWN)
@pytest.mark.parametrize("spec", ["fcfs", "srpt-work", "work-patient:patience_s=0.1", "mlfq", "vtc"])
def test_kernel_equals_twin_where_few_may_be_live(rules, spec):
    found, stopped = find(spec), []

    @drawn(DRAWN[rules])
    def same(scenario):
        ready = scenario.ready(found)
        few = (*ready[:-1], replace(ready[-1], live_most=7, wait_most=5))
        one, other = kernel.replay(*few), reference.replay(*few)
        assert not differences(one, other)
        crowd = (*ready[:-1], replace(ready[-1], live_most=4))
        one, other = kernel.replay(*crowd), reference.replay(*crowd)
        assert not differences(one, other)
        stopped.append(one.stopped == "crowded")
        assert one.stopped != "crowded" or np.count_nonzero(one.status == UNFINISHED) >= 4

    same()
    assert any(stopped)


# from the command line -----------------------------------------------------------------------------------------------

SIZES = {"LARGE": 1500, "PART": 700}
USERS = [core, boiling, replaying, reading, saturation, in_parts, prepare, run, saved, setup, sweep]


def small(monkeypatch, **also):
    """Let traces be large from 1,500 requests on, and a part have 700."""
    for module in USERS:
        for name, value in (SIZES | also).items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


@pytest.fixture
def trace(tmp_path):
    """3,000 requests, at four fifths of what the engine serves."""
    rng = np.random.default_rng(3)
    columns = {
        "arrival_s": rng.exponential(1.0, 3000).cumsum().round(6),
        "prompt_tokens": np.ceil(rng.lognormal(5, 1, 3000)).astype(int),
        "output_tokens": np.ceil(rng.lognormal(4, 1, 3000)).astype(int),
        "client_id": [f"client {number % 5}" for number in range(3000)],
    }
    pl.DataFrame(columns).write_csv(tmp_path / "trace.csv")
    return tmp_path


def line(engine, out, more=""):
    policies = "--policy fcfs --policy srpt-work --policy work-patient"
    return f"replay --trace trace.csv --load 0.8 --repeats 1 --engine {engine} {policies} --out {out} {more}"


@pytest.mark.parametrize("engine", ["ideal", "ideal --kv-tokens 20000", "vllm"])
def test_a_replay_in_parts_is_that_of_the_whole(trace, monkeypatch, engine):
    lapsbench(line(engine, "whole", "--slo ttft:500,tpot:50"), trace).fine()
    small(monkeypatch)
    told = lapsbench(line(engine, "parts", "--slo ttft:500,tpot:50"), trace).fine()
    whole, parts = (pl.read_parquet(trace / name / "requests.parquet") for name in ("whole", "parts"))
    groups = pq.read_metadata(trace / "parts/requests.parquet")
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [700, 700, 700, 700, 200] * 3
    if "kv-tokens" not in engine:  # there capacity is that of the first 1,500
        assert whole.equals(parts)
        exact, found = (summary(trace / name) for name in ("whole", "parts"))
        flags = {key for key in found if key[3] == "approximate"}
        assert {found.pop(key) for key in flags} == {1.0}
        assert len(flags) == 3
        assert found.keys() == exact.keys()
        for key, value in found.items():
            loose = 2.1 * ERROR if "ratio" in key[4] else ERROR  # a ratio has two quantiles
            rel = loose if key[4].startswith("p") else 1e-9
            assert value == (None if exact[key] is None else pytest.approx(exact[key], rel=rel)), key
    assert lapsbench("report parts", trace).fine().out == told.out
    assert "from a sketch: within 0.1 %" in told.out


def test_json_says_which_quantiles_are_approximate(trace, monkeypatch):
    command = line("ideal", "run", "--json -")
    assert {cell["approximate"] for cell in json.loads(lapsbench(command, trace).fine().out)["cells"]} == {False}
    small(monkeypatch)
    found = json.loads(lapsbench(command.replace("run", "parts"), trace).fine().out)
    assert {cell["approximate"] for cell in found["cells"]} == {True}


def test_cells_in_parts_are_taken_again(trace, monkeypatch):
    small(monkeypatch)
    first = lapsbench(line("ideal", "run"), trace).fine()
    before = (trace / "run/requests.parquet").read_bytes()
    again = lapsbench(line("ideal", "run"), trace).fine()
    assert "resumed: 3 of 3 cells" in again.err
    assert again.out == first.out
    assert (trace / "run/requests.parquet").read_bytes() == before
    more = lapsbench(line("ideal", "run", "--policy srpt"), trace).fine()
    assert "resumed: 3 of 4 cells" in more.err


@pytest.mark.parametrize("engine", ["ideal", "vllm"])
def test_a_queue_that_grows_without_bound_stops_the_policy_and_says_what_to_try(trace, monkeypatch, engine):
    small(monkeypatch, LIVE_MOST=200, RANKED_MOST=90)
    line = f"replay --trace trace.csv --load 1.5 --repeats 1 --engine {engine} --policy fcfs --policy vtc --out run"
    told = " ".join(lapsbench(line, trace).fine().out.split())
    assert "fcfs at load 1.5 left" in told
    assert "vtc at load 1.5 left" in told
    assert told.count("(stopped: its queue grew without bound, and was full; try a lower --load") == 2
    rows = pl.read_parquet(trace / "run/requests.parquet")
    for policy, most in (("fcfs", 200), ("vtc", 90)):
        mine = rows.filter(policy=policy)
        stopped_s = mine["finished_s"].max()
        live = mine.filter((pl.col("status") == "unfinished") & (pl.col("arrival_s") < stopped_s))
        assert abs(len(live) - most) < 64  # the last to finish did so a little before or after


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=300), st.integers(0, 100))
@example([0.0, 1.0], 15)
def test_a_quantile_of_a_sketch_is_within_its_error(values, percent):
    sketch = Sketch()
    for part in np.array_split(np.array(values), 3):
        sketch.add(part)
    exact = np.quantile(np.array(values), percent / 100)
    bound = ERROR * (1 + 1e-9)  # it is reached, and rounded
    assert sketch.quantiles([percent / 100])[0] == pytest.approx(exact, rel=bound, abs=1e-12)
