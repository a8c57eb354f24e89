"""The cost grid: what is measured, in which order, how often, and what is done for want of memory or time."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="the profiler is an extra: pip install '.[profile]'")

import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lapsbench.core import COMPONENTS
from lapsbench.decoding.decoder import Sampling
from lapsbench.decoding.drafts import ModelDraft, NgramDraft
from lapsbench.decoding.network import Network
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.profile import clock as clocks
from lapsbench.profile import costs
from lapsbench.profile.clock import Clock, Limits, Timing
from lapsbench.profile.costing import Costing
from lapsbench.profile.costs import Bench, OutOfMemoryError, Seats, sizes_of
from lapsbench.profile.estimate import Rates
from lapsbench.profile.grid import Axes, Point, halvings, parse_axis, whole
from lapsbench.profile.neighbours import Reading, pooled, shares
from lapsbench.profile.parts import Parts

torch.set_num_threads(1)

CPU = torch.device("cpu")
AXES = Axes((1, 2, 4, 8), (16, 32, 64, 128), (1, 2, 3, 4))
MEASURED = set(COMPONENTS) - {"mixed"}
"""Rounds and chunks in one pass are an engine's of its own to measure."""
RATES = Rates.of(cuda=False, threads=1, item_bytes=4, cap_s=1.0)


def seats(*, draft=True):
    target = Network(tiny.model(), slots=1, room=1)
    return Seats(target, ModelDraft(Network(tiny.model(1), slots=1, room=1), "tiny") if draft else NgramDraft(2), 1, 1)


@functools.cache
def sizes(*, draft=True):
    return sizes_of(seats(draft=draft), 10**9)


def grid(axes=AXES, memory_bytes=10**9, *, draft=True):
    room = replace(sizes(draft=draft), memory_bytes=memory_bytes)
    return whole(axes, room, draft_prefills=draft, sampled=False)


def bench(*, draft=True, temperature=0.0):
    sampling = Sampling.seeded(temperature, 0, CPU)
    return Bench(seats(draft=draft), sampling, seed=0, limits=Limits(least=2, most=2, warm_ups=0))


class Fake:
    """Stands in for a bench: each point takes a second on a clock of its own, and some do not fit."""

    def __init__(self, too_large=()):
        self.too_large = set(too_large)
        self.asked = []

    def measure(self, point, _, **__):
        self.asked.append(point)
        if point in self.too_large:
            raise OutOfMemoryError(str(point))
        return Timing(1.0, 0.9, 1.1, 7, settled=True)

    def release(self):
        pass


def costing(folder, fake, budget_s=None, wanted=None):
    wanted = wanted or grid()
    parts = Parts(folder, {})
    parts.close()  # as at the end of a command: the next one is in the same test
    return Costing(fake, wanted, parts, sizes(), RATES, budget_s)


@pytest.fixture
def ticking(monkeypatch):
    """Let the processor's clock show what a test says."""
    durations = []
    readings = itertools.count()
    shown = [0.0]

    def thread_time():
        if next(readings) % 2:
            shown[0] += durations.pop(0) if len(durations) > 1 else durations[0]
        return shown[0]

    monkeypatch.setattr(clocks.time, "thread_time", thread_time)
    return durations


def test_a_steady_step_is_repeated_until_it_has_settled_and_no_more(ticking):
    ticking.extend([0.5])
    timing = Clock(CPU, 0, Limits(least=5, most=50)).time(lambda: None)
    assert timing == Timing(0.5, 0.5, 0.5, 5, settled=True)


def test_an_unsteady_step_is_repeated_up_to_the_cap_and_called_unsettled(ticking):
    ticking.extend([1.0, 2.0, 3.0] * 10)
    timing = Clock(CPU, 0, Limits(least=5, most=21, warm_ups=0)).time(lambda: None)
    assert (timing.repeats, timing.settled) == (21, False)
    assert (timing.p10_s, timing.median_s, timing.p90_s) == (1.0, 2.0, 3.0)


def test_a_slow_step_stops_after_its_seconds_with_three_repeats():
    calls = []
    timing = Clock(CPU, 0, Limits(least=7, seconds=0.0)).time(lambda: calls.append(None))
    assert (timing.repeats, len(calls)) == (3, 4)


def test_what_prepares_a_repeat_is_not_timed(ticking):
    ticking.extend([0.25])
    done = []
    timing = Clock(CPU, 0, Limits(least=3, warm_ups=1)).time(
        lambda: done.append("call"), lambda: done.append("prepare")
    )
    assert timing.median_s == 0.25
    assert done == ["prepare", "call"] * 4


def test_no_more_is_swept_than_both_models_hold_nor_than_two_caches():
    assert Clock(CPU, 4000)._swept.numel() == 1000
    assert Clock(CPU, 2**40)._swept.numel() * 4 == 2 * clocks.last_level_bytes(CPU)


def test_the_grid_holds_every_component_batch_context_and_k():
    points = grid().points()
    assert {point.component for point in points} == MEASURED
    for batch, context in itertools.product(AXES.batches, AXES.contexts):
        assert {Point("draft", batch, k, context) for k in (1, 2, 3, 4)} <= points
        assert {Point("verify", batch, tokens, context) for tokens in (1, 2, 3, 4, 5)} <= points


def test_the_grid_knows_the_price_of_the_first_pass_of_a_step():
    assert {Point("prefill", 1, 1, 0), Point("draft_prefill", 1, 1, 0)} <= grid().points()


def test_lookup_drafts_have_no_prompts_to_read():
    assert not any(point.component == "draft_prefill" for point in grid(draft=False).points())


def test_what_does_not_fit_memory_is_left_out_and_said():
    small = grid(memory_bytes=600_000)
    assert small.left_out
    assert len(small.points()) < len(grid().points())
    assert not small.fits(8, 128)


def test_a_batch_with_memory_for_one_context_only_is_left_out_whole():
    short = grid().without(Point("verify", 4, 1, 32))
    assert short.batches == (1, 2)
    assert "batch 4, 8 at every context" in short.left_out


def test_contexts_beyond_the_positions_are_left_out_and_none_at_all_is_refused():
    assert grid(Axes((1,), (128, 250, 255, 4096), (1, 2))).axes.contexts == (128, 250)
    with pytest.raises(LapsbenchError, match=r"256 positions.*try --contexts 128"):
        grid(Axes((1,), (4096,), (1,)))


def test_nothing_that_fits_is_refused_in_words():
    with pytest.raises(LapsbenchError, match="not even batch 1 fits: it takes"):
        grid(memory_bytes=1000)


axes = st.builds(
    Axes,
    batches=st.lists(st.integers(1, 64), min_size=1, max_size=7, unique=True).map(sorted).map(tuple),
    contexts=st.lists(st.integers(1, 200), min_size=1, max_size=7, unique=True).map(sorted).map(tuple),
    drafts=st.integers(1, 9).map(lambda k: tuple(range(1, k + 1))),
)


@given(axes=axes, memory_bytes=st.integers(200_000, 5_000_000))
@settings(deadline=None, max_examples=60)
def test_whatever_slab_is_the_last_the_grid_is_whole(axes, memory_bytes):
    try:
        wanted = grid(axes, memory_bytes)
    except LapsbenchError:
        return
    known = set()
    for slab in wanted.slabs():
        assert not known & set(slab)
        known |= set(slab)
        for component, extra in (("draft", 0), ("verify", 1)):
            mine = {point for point in known if point.component == component}
            drafts = {point.query_tokens for point in mine}
            assert {1, wanted.draft_tokens + extra} <= drafts
            for batch in {point.batch_size for point in mine}:
                contexts = {point.context_tokens for point in mine if point.batch_size == batch}
                assert len(contexts) > 1 or len(wanted.axes.contexts) == 1
                assert {Point(component, batch, *each) for each in itertools.product(drafts, contexts)} <= mine
    assert known == wanted.points()


def test_an_axis_is_halved_again_and_again():
    assert halvings([1, 2, 4, 8, 16]) == [1, 16, 4, 2, 8]
    assert halvings([3]) == [3]


@pytest.mark.parametrize("text", ["", "a", "1,,2", "0", "-1", "1.5", "²", "9" * 30])
def test_what_is_not_a_list_of_sizes_is_refused(text):
    with pytest.raises(UsageError, match=r"--batches.*try --batches 1,2,4"):
        parse_axis(text, "--batches")


def passes(monkeypatch):
    """Record every forward pass: layers, new tokens per row, rows, cached tokens of the first row."""
    seen = []
    real = Network.forward

    def forward(self, tokens, lengths, **options):
        seen.append((len(self.cache.slot_layers), tokens.shape[1], len(tokens), int(lengths[0])))
        return real(self, tokens, lengths, **options)

    monkeypatch.setattr(Network, "forward", forward)
    return seen


def test_drafting_is_timed_as_the_whole_chain_of_a_round(monkeypatch):
    seen = passes(monkeypatch)
    bench().measure(Point("draft", 2, 3, 32), grid())
    chain = [(2, 2, 2, 31), (2, 1, 2, 33), (2, 1, 2, 34)]
    assert seen == chain * 2


def test_verification_is_timed_as_one_pass_over_k_plus_one_tokens(monkeypatch):
    seen = passes(monkeypatch)
    bench().measure(Point("verify", 4, 5, 64), grid())
    assert seen == [(2, 5, 4, 64)] * 2


@pytest.mark.parametrize("draft", [True, False], ids=["model", "lookup"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_component_takes_time(draft, temperature):
    made, wanted = bench(draft=draft, temperature=temperature), grid(draft=draft)
    for component, points in itertools.groupby(sorted(wanted.points()), key=lambda point: point.component):
        timing = made.measure(min(points, key=lambda point: point.context_tokens), wanted)
        assert timing.median_s > 0, component


def test_repeats_see_other_tokens(monkeypatch):
    seen = []
    real = Network.forward
    monkeypatch.setattr(
        Network, "forward", lambda self, tokens, *a, **o: (seen.append(tokens.clone()), real(self, tokens, *a, **o))[1]
    )
    bench().measure(Point("verify", 4, 5, 64), grid())
    assert not torch.equal(*seen)


def test_caches_are_made_once_for_all_points_they_hold(monkeypatch):
    made = bench()
    calls = []
    real = Seats.resized
    monkeypatch.setattr(
        Seats, "resized", lambda self, slots, room: (calls.append((slots, room)), real(self, slots, room))[1]
    )
    wanted = grid()
    rounds = [point for point in wanted.points() if point.component in ("verify", "draft")]
    for point in wanted.ordered(rounds):
        made.measure(point, wanted)
    assert [slots for slots, _ in calls if slots > 1] == [8]


def test_want_of_memory_is_told_from_other_failures(monkeypatch):
    made = bench()
    for error, kind in (
        (torch.OutOfMemoryError("CUDA out of memory."), OutOfMemoryError),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), OutOfMemoryError),
        (RuntimeError("shape mismatch"), RuntimeError),
    ):
        monkeypatch.setattr(costs.Bench, "_verify", lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(kind) as caught:
            made.measure(Point("verify", 1, 1, 16), grid())
        assert type(caught.value) is kind


def test_want_of_memory_while_measuring_shrinks_the_grid_for_good(tmp_path):
    large = Point("draft", 8, 2, 64)
    fake = Fake([large])
    first = costing(tmp_path / "p", fake)
    first.run(lambda *_: None)
    assert first.grid.left_out == ("batch 8 at context 64, 128",)
    points = {point for point, _ in first.rows()}
    assert points == first.grid.points()
    assert not any(point.batch_size == 8 and point.context_tokens >= 64 for point in points)
    again = costing(tmp_path / "p", Fake())
    again.run(lambda *_: None)
    assert (again.bench.asked, again.rows()) == ([], first.rows())


def test_a_small_budget_measures_the_corners_of_every_component(tmp_path):
    made = costing(tmp_path / "p", Fake(), budget_s=1)
    made.spent_s = 100.0
    made.run(lambda *_: None)
    points = {point for point, _ in made.rows()}
    assert {point.component for point in points} == MEASURED
    assert {(point.batch_size, point.context_tokens) for point in points if point.component == "verify"} == {
        (1, 16),
        (1, 128),
        (8, 16),
        (8, 128),
    }
    assert made.skipped == len(grid().points()) - len(points)


def test_a_larger_budget_adds_to_what_a_smaller_one_has_measured(tmp_path):
    small = costing(tmp_path / "p", Fake(), budget_s=1)
    small.spent_s = 100.0
    small.run(lambda *_: None)
    large = costing(tmp_path / "p", Fake())
    large.run(lambda *_: None)
    assert not set(large.bench.asked) & {point for point, _ in small.rows()}
    assert {point for point, _ in large.rows()} == grid().points()


def counters(user=0, nice=0, system=0, idle=0, stolen=0):
    return f"cpu  {user} {nice} {system} {idle} 0 0 0 {stolen} 0 0\ncpu0 and so on\n"


def test_what_others_took_of_the_machine_is_told_from_the_kernels_counters(tmp_path, monkeypatch):
    path = tmp_path / "stat"
    monkeypatch.setattr("lapsbench.profile.neighbours.COUNTERS", path)
    monkeypatch.setattr("os.sysconf", lambda _: 100)
    own = iter([3.0, 5.0])
    monkeypatch.setattr("time.process_time", lambda: next(own))
    path.write_text(counters(user=1000, idle=500))
    before = Reading.now()
    path.write_text(counters(user=1300, nice=50, system=50, idle=900, stolen=200))
    # ten seconds of processors: four of them busy, two with this process; two were stolen
    assert shares(before, Reading.now()) == {"others": 0.2, "stolen": 0.2}


def test_where_the_kernel_counts_nothing_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("lapsbench.profile.neighbours.COUNTERS", tmp_path / "none")
    assert Reading.now() is None
    assert shares(None, None) == {}
    assert pooled([{"spent_s": 1.0}]) is None


def test_neighbours_are_pooled_by_time():
    lines = [{"spent_s": 3.0, "others": 0.4, "stolen": 0.0}, {"spent_s": 1.0, "others": 0.0, "stolen": 0.2}]
    assert pooled(lines) == {"others": 0.3, "stolen": 0.05, "others_at_most": 0.4}


def test_a_few_points_of_every_component_are_measured_again(tmp_path):
    made = costing(tmp_path / "p", Fake())
    made.run(lambda *_: None)
    made.bench.asked.clear()
    assert made.drift()["points"] == 9
    assert {point.component for point in made.bench.asked} == MEASURED
    assert Point("verify", 1, 1, 16) in made.bench.asked
    made.bench.asked.clear()
    assert (made.drift()["drifted"], made.bench.asked) == (False, [])
