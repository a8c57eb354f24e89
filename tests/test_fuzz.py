"""Damaged files of every format: no traceback, no row lost in silence. `make fuzz` goes on for ten minutes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from mutations import (
    ACCEPTANCE,
    CHECKS,
    COSTS,
    REFUSED,
    TRACES,
    check_acceptance,
    check_costs,
    check_trace,
    damaged,
)

FEW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.parametrize(("files", "check"), CHECKS, ids=["traces", "acceptance", "costs"])
def test_undamaged_files_are_read(files, check, capfd):
    for name, data in files.items():
        assert REFUSED.get(name, "") in (check(name, data) or "")
        assert (check(name, data) is None) == (name not in REFUSED)
    assert "panicked" not in capfd.readouterr().err


@FEW
@given(case=damaged(TRACES))
def test_damaged_traces_are_read_whole_or_refused(case):
    check_trace(*case)


@FEW
@given(case=damaged(ACCEPTANCE))
def test_damaged_acceptance_is_read_whole_or_refused(case):
    check_acceptance(*case)


@settings(FEW, max_examples=40)
@given(case=damaged(COSTS))
def test_damaged_costs_are_read_whole_or_refused(case):
    check_costs(*case)
