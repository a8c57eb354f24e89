"""Walks over the grid, on disk."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench import files
from lapsbench.errors import LapsbenchError
from lapsbench.validation.probing import Probes, drift, usual

if TYPE_CHECKING:
    from pathlib import Path

    from lapsbench.core import Floats
    from lapsbench.validation.bench import Line, Walk

SECONDS = ("whole_s", "target_s", "draft_s")


class Passes:
    """Walks over the grid, or pieces of one, on disk, by when they were taken.

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

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._walks())

    def lines(self, when: str = "") -> list[Line]:
        """Return the steps of all walks, or of those that were taken then, as if the machine had always been as usual.

        A step is measured in moments, and the machine changes between them.
        """
        usual_s, found = self.usual_s(), []
        for taken, probes in self._walks(when):
            dear = drift(probes, usual_s)
            for line in taken:
                over = dear.at(line["at_s"])
                found.append(line | {name: line[name] / over for name in SECONDS})
        return found

    def usual_s(self) -> Floats:
        """Return what each part of a probe took on the mean: [parts]."""
        return usual([probes for _, probes in self._walks()])

    def dear(self, when: str) -> float:
        """Return how many times as dear as usual the machine was then."""
        usual_s, pieces = self.usual_s(), [probes for _, probes in self._walks(when)]
        dear = [drift(each, usual_s).whole for each in pieces]
        return float(np.average(dear, weights=[len(each.probes_s) for each in pieces]))

    def first_s(self) -> float:
        """Return how long the first walk took."""
        return self._walks()[0][1].at_s[-1]

    def _walks(self, when: str = "") -> list[tuple[list[Line], Probes]]:
        passes = self.known["passes"]
        walks = (walk for name in ([when] if when else passes) for walk in passes.get(name, ()))
        return [(walk["taken"], Probes(**walk["probes"])) for walk in walks]


def keep(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as part:
        part.write_text(json.dumps(content), encoding="utf-8")
