"""Probes within a served cell: the clock stands for them, and each is timed."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest

from lapsbench.serving.clock import TICK_S
from lapsbench.validation.bench import Walk
from lapsbench.validation.grid import WALKS, dealt
from lapsbench.validation.passes import Passes
from lapsbench.validation.probing import LEAD, WORK, Probes, Probing, drift

LONG_S = 0.03


def work(seconds):
    """Keep this thread busy."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_clock_stands_while_it_probes():
    clock = Probing("cpu", [lambda: work(LONG_S)])
    before_s, began = clock(), time.thread_time()
    held_s = clock.hold()
    assert time.thread_time() - began >= LONG_S
    assert 0 <= held_s - before_s < LONG_S / 2
    assert [each >= LONG_S for each in clock.probes_s] == [True]


def test_a_probe_is_taken_only_when_there_was_work_since_the_last():
    clock = Probing("cpu", [lambda: work(LONG_S)])
    clock.hold()
    clock.idle_until(100.0)  # a jump is no work
    assert clock.hold() >= 100.0
    assert len(clock.probes_s) == 1
    work(WORK * LONG_S * 1.5)
    clock.hold()
    assert len(clock.probes_s) == 2


def test_stamps_are_whole_ticks_after_a_probe_too():
    clock = Probing("cpu", [lambda: work(LONG_S)])
    clock.take()
    assert clock() % TICK_S == 0


def test_parts_take_turns_and_there_is_a_whole_turn():
    taken = []
    clock = Probing("cpu", [lambda part=part: taken.append(part) for part in range(3)])
    clock.take()
    probes = clock.probes()
    assert taken == [0, 1, 2]
    assert len(probes.at_s) == len(probes.probes_s) == 3
    assert probes.parts == 3


def told(took, at_s, usual_s=(0.01,)):
    return drift(Probes(list(took), list(at_s), len(usual_s)), np.array(usual_s))


def test_a_machine_that_gets_dearer_is_followed_as_time_goes_by():
    at_s = np.arange(100) / 10
    dear = told(np.where(at_s < 5, 0.01, 0.012), at_s)
    assert dear.at(1.0) == pytest.approx(1.0)
    assert dear.at(4.95) == pytest.approx(1.1, abs=0.03)
    assert [dear.at(7.0), dear.at(99.0)] == pytest.approx([1.2, 1.2])


def test_each_part_is_held_against_what_it_usually_takes():
    dear = told([0.011, 0.033, 0.011, 0.033], np.arange(4) / 10, usual_s=(0.01, 0.03))
    assert dear.times == pytest.approx(np.full(3, 1.1))
    assert dear.whole == pytest.approx(1.1)


def test_far_apart_a_probe_is_averaged_with_its_neighbours():
    dear = told([0.01, 0.01, 0.01, 0.012, 0.012, 0.012, 1.0], np.arange(7) * 60.0)
    speeds = [1.0, 1.0, (2 + 1 / 1.2) / 3, (1 + 2 / 1.2) / 3, 1 / 1.2, 1 / 1.2]
    assert 1 / dear.times == pytest.approx(speeds)


def test_a_probe_that_stood_still_is_left_out():
    dear = told([0.01, 0.01, 0.5, 0.01], np.arange(4.0))
    assert dear.whole == dear.at(2.0) == pytest.approx(1.0)


def test_what_work_takes_is_what_it_takes_at_the_mean_speed():
    at_s = np.arange(0.0, 3.0, 0.003)  # a third of the time at full speed, two thirds at half
    dear = told(np.where(np.arange(1000) % 3, 0.02, 0.01), at_s)
    assert dear.whole == pytest.approx(1.5, rel=0.03)
    assert dear.at(1.5) == pytest.approx(1.5, rel=0.03)


def test_one_probe_is_enough():
    dear = told([0.02], [3.0])
    assert dear.at(0.0) == dear.whole == pytest.approx(2.0)


def test_who_stood_still_for_several_turns_was_disturbed():
    def disturbed(longest_s):
        return Probes([0.01] * 99 + [longest_s], [0.0] * 100, 3).disturbed(0.01)

    assert disturbed(0.16)
    assert not disturbed(0.14)


def test_who_is_dearer_than_usual_is_waited_for_and_who_was_far_from_it_was_disturbed():
    probes = Probes([0.01] * 20, [0.0] * 20, 1)
    found = [(probes.dearer(usual_s), probes.disturbed(usual_s)) for usual_s in (0.0095, 0.0088, 0.0085, 0.012)]
    assert found == [(False, False), (True, False), (True, True), (False, True)]


def walk(dear):
    """Return a walk over two kinds of steps, on a machine that is `dear` at first, then as usual."""
    at_s = np.arange(0.0, 20.0, 0.1)
    times = np.where(at_s < 10, dear, 1.0)
    steps = [{"step": int(at >= 10), "at_s": float(at), "whole_s": float(times[i])} for i, at in enumerate(at_s)]
    lines = [step | {"target_s": step["whole_s"], "draft_s": 0.0} for step in steps]
    return Walk(lines, Probes((0.01 * times).tolist(), at_s.tolist(), 1))


def test_steps_that_met_a_dear_machine_are_not_priced_dearer(tmp_path):
    passes = Passes(tmp_path / "measured.json", {})
    assert len(passes) == 0
    passes.keep("first", walk(1.2))
    passes.keep("seed 0", walk(1.0))
    passes.keep("seed 1", walk(1.0))
    lines = Passes(tmp_path / "measured.json", {}).lines()
    by_step = [np.mean([line["whole_s"] for line in lines if line["step"] == step]) for step in (0, 1)]
    assert len(passes) == 3
    assert passes.usual_s() == pytest.approx([0.0103], rel=0.01)
    assert by_step == pytest.approx([1.03, 1.03], abs=0.01)


def test_what_goes_before_a_probe_is_not_timed_and_the_clock_stands_for_it():
    taken, parts = [], round(1 / LEAD)

    def part(number):
        taken.append(number)
        work(LONG_S if number == 0 else 0.0)

    clock = Probing("cpu", [partial(part, number) for number in range(parts)])
    before_s = clock()
    clock.take()
    clock.take()
    assert taken == [parts - 1, 0, 0, 1]
    assert clock() - before_s < LONG_S / 2
    assert clock.probes_s[0] >= LONG_S > LONG_S / 2 > clock.probes_s[1]


def test_each_time_has_a_level_of_its_own_whatever_pieces_its_walk_was_taken_in(tmp_path):
    passes = Passes(tmp_path / "measured.json", {})
    for when, dear in (("first", 1.0), ("seed 0", 1.1), ("seed 0", 1.3), ("seed 1", 0.9)):
        passes.keep(when, Walk([], Probes([0.01 * dear] * 3, [0.0, 1.0, 2.0], 1)))
    dear = [passes.dear(when) for when in ("first", "seed 0", "seed 1")]
    assert dear[1] / dear[0] == pytest.approx(1.2)
    assert dear[2] / dear[0] == pytest.approx(0.9)


@pytest.mark.parametrize("turns", [1, 2, 3, 6, 20, 40])
def test_walks_are_dealt_out_whole_before_the_cells_of_a_repeat(turns):
    sets = list(range(17))
    dealt_out = [each for turn in range(turns) for each in dealt(sets, turn, turns)]
    counts = [dealt_out.count(each) for each in sets]
    assert min(counts) >= (WALKS if turns > 1 else 1)
    assert turns > 6 or max(counts) <= WALKS + turns % 2
