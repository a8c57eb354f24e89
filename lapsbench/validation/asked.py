"""What the child that measures steps is told: plain records that travel to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lapsbench.core import Engine
    from lapsbench.execution.wanted import Prepared, Wanted


@dataclass(frozen=True, slots=True)
class Measure:
    """Asks a child to make an engine and take steps on it, as often as it is told, until its stdin ends.

    Attributes:
        longest: tokens of the longest context.
    """

    wanted: Wanted
    prepared: Prepared
    engine: Engine
    longest: int
