"""From measured steps to a profile.

Prices are means: a median forgets what is rare and dear, and whoever is served waits for it.
"""

from __future__ import annotations

import datetime as dt
import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import Profile
from lapsbench.store.profile import open_profile, write_profile
from lapsbench.vllm.rows import costs_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lapsbench.sim.cost import StepCosts
    from lapsbench.validation.bench import Line


@dataclass(frozen=True, slots=True)
class Measured:
    """Steps that were taken, as `rows_of` asks for them."""

    lines: Sequence[Line]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return what there is of a kind."""
        return [{"taken": self.lines}] if kind == "steps" else []


def write(folder: Path, lines: Sequence[Line], bank: str, about: Mapping[str, Any]) -> None:
    """Write a profile: means of what was measured, and the recordings of another profile.

    Raises:
        LapsbenchError: no such profile, or the folder cannot be written.
    """
    recordings = open_profile(bank).bank
    label = f"steps of {about['engine']} on {platform.machine()}, one thread; acceptance of {bank}"
    provenance = {
        "source": "lapsbench validate",
        "label": label,
        "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        **about,
    }
    write_profile(
        folder, Profile(folder.name, costs_of(rows_of(Measured(lines), np.mean), np.mean), recordings, provenance)
    )


def dearer(costs: StepCosts, times: float) -> StepCosts:
    """Return prices that are all so many times as high."""
    mixed = replace(costs.mixed, time_s=costs.mixed.time_s * times) if costs.mixed is not None else None
    return replace(costs, step_s=costs.step_s * times, chunk_s=costs.chunk_s * times, mixed=mixed)
