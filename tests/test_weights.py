"""Work that is like a step's: all weights that are multiplied with, once, in parts."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="our decoder is an extra: pip install '.[profile]'")

import torch

from lapsbench.validation.weights import LEAST, PARTS, parts_of


def multiplied(parts):
    """Return how many weights each part multiplies with, and the tokens."""
    tokens = {len(values) for part in parts for values, _ in part.args[0]}
    return [sum(weight.numel() for _, weight in part.args[0]) for part in parts], tokens


def model(width, layers):
    modules = [torch.nn.Linear(width, width) for _ in range(layers)]
    return torch.nn.Sequential(torch.nn.Embedding(100, width), *modules, torch.nn.LayerNorm(width))


def test_all_weights_are_multiplied_once_and_none_of_what_is_looked_up():
    weights, tokens = multiplied(parts_of(model(1800, 9), 16))
    assert sum(weights) == 9 * 1800**2
    assert len(weights) == PARTS
    assert max(weights) < 1.01 * min(weights)
    assert tokens == {16}


def test_a_matrix_may_be_larger_than_a_part():
    weights, _ = multiplied(parts_of(torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.Linear(100, 300_000)), 1))
    assert sum(weights) == 10_000 + 30_000_000
    assert len(weights) == PARTS
    assert max(weights) < 1.01 * min(weights)


def test_a_small_model_is_one_part():
    parts = parts_of(model(64, 2), 8)
    assert [len(part.args[0]) for part in parts] == [2]
    assert LEAST > 2 * 64**2
    parts[0]()
