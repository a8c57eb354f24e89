"""Contexts of the rounds that are measured before our decoder is predicted: as far apart as served ones are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="our decoder is an extra: pip install '.[profile]'")

from lapsbench.validation.torch_bench import apart


@given(st.integers(1, 2000), st.integers(1, 64), st.integers(1, 4000))
def test_contexts_are_apart_around_their_mean(mean, rounds, most):
    found = np.array(apart(mean, rounds, most))
    assert found.min() >= 1
    assert found.max() <= max(most, mean)
    assert abs(found.mean() - mean) <= 0.5
    assert len(found) == rounds


@pytest.mark.parametrize(("rounds", "over"), [(1, 1.0), (2, 1.5), (4, 1.75), (8, 1.88)])
def test_the_longest_is_far_from_the_mean(rounds, over):
    assert max(apart(100, rounds, 1000)) / 100 == pytest.approx(over, abs=0.02)
