"""Load a pair of models and lay out its grid on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lapsbench.decoding.drafts import ModelDraft
from lapsbench.models.sources import load_draft, load_target
from lapsbench.profile import device as devices
from lapsbench.profile.clock import Limits
from lapsbench.profile.costs import Seats, sizes_of
from lapsbench.profile.estimate import Plan, Rates, seconds
from lapsbench.profile.grid import needed_bytes, whole

if TYPE_CHECKING:
    from lapsbench.models.loaded import Loaded
    from lapsbench.models.sources import LoadedDraft
    from lapsbench.profile.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Pair:
    """A target and a draft, loaded."""

    target: Loaded
    draft: LoadedDraft
    seats: Seats

    @property
    def random(self) -> bool:
        """Whether any weights were drawn, so that only costs mean anything."""
        return self.target.random or self.draft.random


def prepare(wanted: Wanted) -> tuple[torch.device, torch.dtype]:
    """Return device and dtype, and take as many threads as asked for.

    Raises:
        LapsbenchError: there is no such device here.
    """
    device = devices.find(wanted.device)
    if device.type == "cpu":
        torch.set_num_threads(wanted.threads)
    kind = wanted.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    dtype: torch.dtype = getattr(torch, kind)
    return device, dtype


def load(wanted: Wanted, device: torch.device, dtype: torch.dtype) -> Pair:
    """Return both models; on the device "meta" their sizes only.

    Raises:
        LapsbenchError: a model cannot be loaded, or the two do not go together.
    """
    target = load_target(wanted.target, device=device, dtype=dtype, seed=wanted.seed)
    draft = load_draft(wanted.draft, target, seed=wanted.seed + 1)
    network = target.network(1, 1)
    return Pair(target, draft, Seats(network, draft.attach(network), 1, 1))


def plan(wanted: Wanted, pair: Pair, device: torch.device) -> Plan:
    """Return what to measure with these models on this device.

    Raises:
        LapsbenchError: nothing fits its memory, or the models' positions.
    """
    sizes = sizes_of(pair.seats, devices.memory_bytes(device))
    sampled = wanted.temperature > 0
    axes = wanted.axes(cuda=device.type == "cuda")
    mixed = device.type == "cpu" if wanted.mixed is None else wanted.mixed
    grid = whole(axes, sizes, draft_prefills=isinstance(pair.seats.draft, ModelDraft), sampled=sampled, mixed=mixed)
    rates = Rates.of(
        cuda=device.type == "cuda",
        threads=torch.get_num_threads(),
        item_bytes=sizes.item_bytes,
        cap_s=Limits().seconds,
    )
    largest = max(
        needed_bytes(sizes, batch, grid.longest(batch), grid.draft_tokens, sampled=sampled) for batch in grid.batches
    )
    return Plan(devices.name_of(device), sizes, rates, grid, seconds(grid.points(), sizes, rates), largest)
