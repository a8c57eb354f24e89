"""From measured steps to a profile.

Prices are means: a median forgets what is rare and dear, and whoever is served waits for it.
"""

from __future__ import annotations

import datetime as dt
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import Profile
from lapsbench.store.profile import write_profile
from lapsbench.vllm.rows import costs_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lapsbench.core import Bank
    from lapsbench.validation.bench import Line


@dataclass(frozen=True, slots=True)
class Measured:
    """Steps that were taken, as `rows_of` asks for them."""

    lines: Sequence[Line]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return what there is of a kind."""
        return [{"taken": self.lines}] if kind == "steps" else []


def write(folder: Path, lines: Sequence[Line], bank: Bank | None, whose: str, about: Mapping[str, Any]) -> None:
    """Write a profile: means of what was measured, and recordings, with whose they are.

    Raises:
        LapsbenchError: the folder cannot be written.
    """
    label = f"steps of {about['engine']} on {platform.machine()}, one thread; acceptance of {whose}"
    provenance = {
        "source": "lapsbench validate",
        "label": label,
        "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        **about,
    }
    write_profile(folder, Profile(folder.name, costs_of(rows_of(Measured(lines), np.mean), np.mean), bank, provenance))
