"""Walks over the grid, on disk."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lapsbench import files
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.validation.bench import Line, Walk


class Passes:
    """Walks over the grid, on disk, by when they were taken.

    Raises:
        LapsbenchError: the file is another command's.
    """

    def __init__(self, file: Path, identity: dict[str, Any]) -> None:
        self.file = file
        wanted = json.loads(json.dumps(identity))
        self.known = json.loads(file.read_bytes()) if file.exists() else {"identity": wanted, "passes": {}}
        if self.known["identity"] != wanted:
            what = "holds what was measured for another command"
            raise LapsbenchError(what, where=str(file.parent), hint="another --out, or removing the folder")

    def keep(self, when: str, walk: Walk) -> None:
        """Add a walk."""
        self.known["passes"].setdefault(when, []).append(asdict(walk))
        keep(self.file, self.known)

    def lines(self, when: str = "") -> list[Line]:
        """Return the steps of all, or of those that were taken then."""
        passes = self.known["passes"]
        return [line for name in ([when] if when else passes) for walk in passes[name] for line in walk["taken"]]

    def probes_s(self) -> list[list[float]]:
        """Return what probes took, by walk."""
        return [walk["probes_s"] for name in self.known["passes"].values() for walk in name]


def keep(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as part:
        part.write_text(json.dumps(content), encoding="utf-8")
