"""Whole steps, as where they are served: on a GPU, overhead and `mixed` are what the other parts leave of one."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the profiler is an extra: pip install '.[profile]'")

import tiny
import torch

from lapsbench.decoding.decoder import Sampling
from lapsbench.decoding.drafts import ModelDraft, NgramDraft
from lapsbench.decoding.network import Network
from lapsbench.profile.clock import Limits, Timing
from lapsbench.profile.costs import Bench, Seats, sizes_of
from lapsbench.profile.grid import Axes, Point, whole
from lapsbench.profile.served import ServedStep

torch.set_num_threads(1)

AXES = Axes((1, 2, 4), (16, 32), (1, 2))
CHUNK = Point("mixed", 3, 16, 32, 3, 16)


def seats(*, draft=True, slots=1, room=1):
    target = Network(tiny.model(), slots=slots, room=room)
    if not draft:
        return Seats(target, NgramDraft(2), slots, room)
    return Seats(target, ModelDraft(Network(tiny.model(1), slots=slots, room=room), "tiny"), slots, room)


def bench(*, draft=True):
    sampling = Sampling.seeded(0.0, 0, torch.device("cpu"))
    made = Bench(seats(draft=draft), sampling, seed=0, limits=Limits(least=2, most=2, warm_ups=1))
    made.hides = True  # as on CUDA
    return made, whole(AXES, sizes_of(made._seats, 10**9), draft_prefills=draft, sampled=False, mixed=True)


@pytest.mark.parametrize("draft", [True, False])
def test_every_part_of_a_step_is_timed_where_work_hides(draft):
    made, grid = bench(draft=draft)
    points = [each for each in grid.points() if each.component in ("mixed", "overhead")]
    assert len(points) > 8
    assert all(made.measure(point, grid).median_s > 0 for point in points)
    assert made.measure(Point("round", 2, 2, 16), grid).median_s > 0


@pytest.mark.parametrize(("draft", "left_s"), [(True, 0.25), (False, 0.5)])
def test_what_is_left_of_a_step_is_what_a_replay_does_not_price_beside_it(draft, left_s, monkeypatch):
    made, grid = bench(draft=draft)
    sizes = {1: 0.125, 16: 0.375}  # of prompts

    def timed(_, prepare, *, whole=False):
        return Timing(2.0 if whole else 0.5, 2.0, 2.0, 2, settled=True)

    monkeypatch.setattr(made, "_time", timed)
    monkeypatch.setattr(
        made, "_prefill", lambda point, *_: Timing(sizes[point.query_tokens], 0.0, 0.0, 2, settled=True)
    )
    overhead = made.measure(Point("overhead", 3, 2, 16), grid)
    assert overhead.median_s == 2.0 - 0.5 - 0.5  # drafting, verifying
    mixed = made.measure(CHUNK, grid)
    assert mixed.median_s == 2.0 - 0.5 - overhead.median_s - (0.25 if draft else 0.0) == left_s
    plain = made.measure(Point("mixed", 3, 16, 32, 1, 16), grid)
    assert plain.median_s == 2.0 - overhead.median_s


def test_a_step_can_be_taken_again_and_again():
    here = seats(slots=4, room=64)
    said = torch.randint(0, 60, (64,))
    step = ServedStep(here.target, here.draft, 2, rounds=3, context=20, chunk=(8, 5), said=said, eager=False)
    ends = []
    for _ in range(3):
        step.rewind()
        step.take()
        texts = step.executor.texts
        ends.append([list(texts[request].tokens) for request in texts])
        assert [texts[request].cached_tokens for request in texts] == [23, 23, 23, 13]
    assert ends[0] == ends[1] == ends[2]
    assert [len(tokens) for tokens in ends[0]] == [24, 24, 24, 14]
