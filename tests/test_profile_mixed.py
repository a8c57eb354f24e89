"""`lapsbench profile` on our decoder: rounds and a chunk of a prompt in one pass, as where they are served."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="the profiler is an extra: pip install '.[profile]'")

import tiny
from commands import lapsbench
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_profile_costs import Fake, axes, bench, costing, grid

from lapsbench.decoding.network import Network
from lapsbench.errors import LapsbenchError
from lapsbench.profile import clock, costs
from lapsbench.profile.clock import Timing
from lapsbench.profile.grid import Axes, Point
from lapsbench.profile.parts import Parts
from lapsbench.store.profile import open_profile, write_profile

SMALL = Axes((1, 2, 3, 4), (16, 32, 64), (1, 2))
COSTS = "profile --target T --draft ngram:2 --out P --costs-only --device cpu --contexts 16,48 --draft-tokens 2"
THREE = f"{COSTS} --batches 1,2,3"
OURS = "verify_tokens", "chunk_context_tokens"


def mixed(axes=SMALL, memory_bytes=10**9):
    return replace(grid(axes, memory_bytes), mixed=True)


def rows(points):
    return {point for point in points if point.component == "mixed"}


@pytest.fixture
def room(tmp_path):
    tiny.save(tmp_path / "T")
    return tmp_path


@pytest.fixture
def brief(monkeypatch):
    """Measure, but each point twice only."""
    monkeypatch.setattr(costs, "Limits", lambda **_: clock.Limits(least=2, most=2, warm_ups=0))


def test_a_profile_has_them_and_a_replay_is_priced_with_them(room, brief):
    lapsbench(THREE, room).fine()
    found = pl.read_parquet(room / "P" / "cost.parquet")
    mine = found.filter(pl.col("component") == "mixed")
    assert (
        found.filter(pl.col("component") != "mixed").select(OURS).null_count().row(0) == (len(found) - len(mine),) * 2
    )
    assert sorted(mine["batch_size"].unique()) == [1, 2]
    assert sorted(mine["verify_tokens"].unique()) == [1, 3]
    assert sorted(mine["chunk_context_tokens"].unique()) == [0, 16]
    profile = open_profile(str(room / "P"))
    slower = np.where(profile.costs.component == "mixed", 10.0, 1.0) * profile.costs.time_s
    write_profile(room / "slow", replace(profile, costs=replace(profile.costs, time_s=slower)))
    trace = "".join(f"{0.001 * i},20,8\n" for i in range(8))
    (room / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{trace}")
    run = "--policy fcfs --repeats 1 --trace t.csv --engine ideal --draft-tokens 0 --max-batch 3 --json -"
    fast, slow = (
        json.loads(lapsbench(f"replay --profile {name} --rate 200 {run}", room).fine().out)["cells"][0]
        for name in ("P", "slow")
    )
    assert fast["finished"] == slow["finished"] == 8
    assert slow["metrics"]["jct_mean_s"] > 1.5 * fast["metrics"]["jct_mean_s"]


def test_a_point_is_timed_as_one_pass_over_the_rounds_and_the_chunk(monkeypatch):
    seen = []
    real = Network.mixed

    def watched(self, tokens, lengths, chunks, **options):
        (chunk,) = chunks
        seen.append((tuple(tokens.shape), lengths.tolist(), len(chunk.tokens), chunk.cached, chunk.row))
        return real(self, tokens, lengths, chunks, **options)

    monkeypatch.setattr(Network, "mixed", watched)
    timing = bench().measure(Point("mixed", 3, 16, 64, 3, 32), mixed())
    assert seen == [((3, 3), [64] * 3, 16, 32, 3)] * 2
    assert timing.median_s > 0


def test_beside_the_most_rounds_one_place_is_left_for_the_chunk():
    assert mixed().rounds == (1, 3)
    assert mixed(replace(SMALL, batches=(1, 2, 3, 4, 6, 8))).rounds == (1, 4, 7)
    assert mixed(replace(SMALL, batches=(1,))).rounds == ()  # who serves one at a time mixes nothing
    assert not rows(mixed(replace(SMALL, batches=(1,))).points())
    assert not rows(grid(SMALL).points())


def test_the_dry_run_shows_them_and_the_batches_of_a_cpu(room):
    told = lapsbench(f"{COSTS} --dry-run", room).fine().out
    assert "batches   1, 2, 3, 4, 6, 8\n" in told
    assert "mixed     chunks of 16 over 0 or 16 cached tokens, beside 1, 4, 7 rounds\n" in told
    assert "mixed" not in lapsbench(f"{COSTS} --no-mixed --dry-run", room).fine().out


@given(axes=axes, memory_bytes=st.integers(200_000, 5_000_000))
@example(axes=Axes((1, 2, 3, 4, 5), (1, 2, 14), (1,)), memory_bytes=249_174)
@settings(deadline=None, max_examples=60)
def test_whatever_slab_is_the_last_no_size_has_one_value_where_there_are_two(axes, memory_bytes):
    try:
        wanted = mixed(axes, memory_bytes)
    except LapsbenchError:
        return
    every = rows(wanted.points())
    known = set()
    for slab in wanted.slabs():
        known |= rows(slab)
        for values in (lambda point: point.batch_size, lambda point: point.verify_tokens):
            assert len(set(map(values, known))) >= min(2, len(set(map(values, every))))
        contexts = defaultdict(set)
        for point in known:
            contexts[point.batch_size].add(point.context_tokens)
            assert wanted.room(point) <= wanted.positions
        assert all(len(each) > 1 for each in contexts.values()) or len(wanted.axes.contexts) == 1
    assert known == every


def test_want_of_memory_shrinks_the_grid_for_the_batch_that_has_the_chunk_too(tmp_path):
    made = costing(tmp_path / "p", Fake([Point("mixed", 3, 16, 64, 3, 32)]), wanted=mixed())
    made.run(lambda *_: None)
    assert made.grid.left_out == ("batch 4 at context 64",)
    assert rows(point for point, _ in made.rows()) == rows(made.grid.points())


def test_points_kept_before_there_were_such_sizes_are_not_measured_again(tmp_path):
    parts = Parts(tmp_path / "p", {})
    sizes = {"component": "verify", "batch_size": 1, "query_tokens": 1, "context_tokens": 16}
    timing = {"median_s": 2.0, "p10_s": 2.0, "p90_s": 2.0, "repeats": 7, "settled": True}
    parts.keep("point", **sizes, **timing, spent_s=1.0)
    parts.close()
    made = costing(tmp_path / "p", Fake(), wanted=mixed())
    made.run(lambda *_: None)
    assert Point(*sizes.values()) not in made.bench.asked
    assert dict(made.rows())[Point(*sizes.values())] == Timing(2.0, 2.0, 2.0, 7, settled=True)
    again = costing(tmp_path / "p", Fake(), wanted=mixed())
    again.run(lambda *_: None)
    assert (again.bench.asked, again.rows()) == ([], made.rows())


def test_with_and_without_are_two_profiles(room, brief):
    lapsbench(f"{THREE} --no-mixed", room).fine()
    assert "mixed" not in pl.read_parquet(room / "P" / "cost.parquet")["component"]
    refused = lapsbench(THREE, room)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "P: holds a profile that differs from what is asked for: mixed is true, not null" in refused.err
    refused = lapsbench(f"{THREE} --mixed --engine vllm", room)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
