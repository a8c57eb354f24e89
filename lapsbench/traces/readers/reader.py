"""What a trace format is: the columns it is known by, and a function from a file to a Trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.core import Trace
    from lapsbench.traces.source import Container, Source

Failed = Literal["drop", "keep"]
"""What becomes of requests that failed, which have no output: dropped and counted, or kept with one output token."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One trace format.

    Attributes:
        name: for people, in errors and provenance.
        containers: what it may be stored in.
        columns: names a file must have to be taken for this format.
        optional: names it also reads.
        read: returns the checked rows in file order, in a Trace still without a name; may return none.
        tokens: names of prompt and output tokens, where a file without arrivals makes sense.
    """

    name: str
    containers: tuple[Container, ...]
    columns: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Source, Failed], Trace]
    tokens: tuple[str, ...] = ()
