"""How far a cell that is being served has got: counted from its step log while that grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEFT = b'"status":'
"""In a line of the log: somebody has left."""


class Departures:
    """Counts who has left, and tells it whenever it is called."""

    def __init__(self, log: Path, tell: Callable[[int], None]) -> None:
        self.log, self.tell = log, tell
        self.count = self.place = 0

    def __call__(self) -> None:
        """Read what the log has grown by, whole lines only."""
        if not self.log.exists():
            return
        with self.log.open("rb") as file:
            file.seek(self.place)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self.place += len(whole)
        self.count += whole.count(LEFT)
        self.tell(self.count)
