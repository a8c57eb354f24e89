"""A slot cache holds, to the bit, what was written where it was written."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the profiler is an extra: pip install '.[profile]'")

import torch

from lapsbench.decoding.cache import SlotCache, Window


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_new_tokens_lie_at_their_places_and_nothing_else_moves(dtype):
    generator = torch.Generator().manual_seed(0)
    cache = SlotCache(2, (4, 3, 16, 8), dtype, torch.device("cpu"))
    cache.fill_random(generator)
    before, places = cache.states.clone(), torch.tensor([[5, 6], [0, 1], [13, 14]])
    new = torch.randn(2, 3, 2, 3, 8, generator=generator).to(dtype).transpose(2, 3)  # as a model hands it in
    cache.open(Window(slice(1, 4), places, 15))
    keys, values = cache.update(new[0], new[1], layer_idx=1)
    for row, slot in enumerate((1, 2, 3)):
        before[1, :, slot, :, places[row]] = new[:, row]
    assert torch.equal(cache.states, before)
    assert torch.equal(keys, before[1, 0, 1:4, :, :15])
    assert torch.equal(values, before[1, 1, 1:4, :, :15])
