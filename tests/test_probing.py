"""Probes within a served cell: the clock stands for them, and each is timed."""

from __future__ import annotations

import time

from lapsbench.serving.clock import TICK_S
from lapsbench.validation.probing import WORK, Probing

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
