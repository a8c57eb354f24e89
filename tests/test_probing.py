"""Probes within a served cell: the clock stands for them, and each is timed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lapsbench.serving.clock import TICK_S
from lapsbench.validation.probing import WORK, Probes, Probing, drift

LONG_S = 0.03


def work(seconds):
    """Keep this thread busy."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_clock_stands_while_it_probes():
    clock = Probing("cpu", lambda: work(LONG_S))
    before_s, began = clock(), time.thread_time()
    held_s = clock.hold()
    assert time.thread_time() - began >= LONG_S
    assert 0 <= held_s - before_s < LONG_S / 2
    assert [each >= LONG_S for each in clock.probes_s] == [True]


def test_a_probe_is_taken_only_when_there_was_work_since_the_last():
    clock = Probing("cpu", lambda: work(LONG_S))
    clock.hold()
    clock.idle_until(100.0)  # a jump is no work
    assert clock.hold() >= 100.0
    assert len(clock.probes_s) == 1
    work(WORK * LONG_S * 1.5)
    clock.hold()
    assert len(clock.probes_s) == 2


def test_stamps_are_whole_ticks_after_a_probe_too():
    clock = Probing("cpu", lambda: work(LONG_S))
    clock.take()
    assert clock() % TICK_S == 0


def test_a_machine_that_gets_dearer_is_followed_as_time_goes_by():
    at_s = np.arange(100) / 10
    probes = Probes(at_s.tolist(), np.where(at_s < 5, 0.01, 0.012).tolist())
    told = drift(probes, 0.01)
    assert told.at(1.0) == pytest.approx(1.0)
    assert told.at(4.95) == pytest.approx(1.1, abs=0.03)
    assert told.at(7.0) == told.at(99.0) == pytest.approx(1.2)


def test_a_probe_that_stood_still_is_left_out():
    told = drift(Probes([0.0, 1.0, 2.0, 3.0], [0.01, 0.01, 0.5, 0.01]), 0.01)
    assert told.whole == told.at(2.0) == pytest.approx(1.0)


def test_one_probe_is_enough():
    told = drift(Probes([3.0], [0.02]), 0.01)
    assert told.at(0.0) == told.whole == pytest.approx(2.0)
