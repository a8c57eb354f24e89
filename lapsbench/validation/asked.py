"""What the child that measures steps is told: plain records that travel to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lapsbench.core import Bytes, Engine
    from lapsbench.execution.wanted import Prepared, Wanted


@dataclass(frozen=True, slots=True)
class Measure:
    """Asks a child to make an engine and take steps on it, as often as it is told, until its stdin ends.

    Attributes:
        longest: tokens of the longest context.
        accept_runs: uint8, drafts that rounds accept while steps are timed, in turn: as often as when served.
    """

    wanted: Wanted
    prepared: Prepared
    engine: Engine
    longest: int
    accept_runs: Bytes
