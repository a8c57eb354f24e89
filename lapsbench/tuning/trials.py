"""Trials: what was tried, and how it did; and the file that keeps them, so that none is run twice."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from lapsbench.errors import LapsbenchError
from lapsbench.schema import TRIALS, read_parquet, write_parquet
from lapsbench.tuning.limits import Judged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lapsbench.tuning.space import Setting

Phase = Literal["search", "final"]
KIND = "trials"
EVERY_S = 2.0
"""Between two times that the file is written, at least."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One look at one setting.

    Attributes:
        setting: its key; policy: its policy.
        look: which one, from 0, the shortest; phase: whether the search asked for it, or the final after it.
        value: what is minimised; ratio, low, high: over the same of today's setting, with a 95 % interval.
        tail: p99 of JCT over today's.
        limits: as judged, in the order of the constraints.
        keeps_up: whether nothing piles up, and everything was finished.
    """

    phase: Phase
    setting: str
    policy: str
    look: int
    requests: int
    seeds: int
    keeps_up: bool
    value: float | None
    ratio: float | None
    low: float | None
    high: float | None
    tail: float | None
    limits: tuple[Judged, ...]

    @property
    def beyond(self) -> float:
        """How far it is beyond its limits, together."""
        return sum(max(0.0, each.beyond) for each in self.limits)

    @property
    def score(self) -> tuple[bool, float, float]:
        """What trials of one look are ordered by, best first: whether limits are kept, how far not, the ratio."""
        return self.ratio is None, self.beyond, self.ratio or 0.0


class TrialsFile:
    """`trials.parquet`: the search's trials in order, then those of the final. What is finished is there in seconds.

    Attributes:
        rows: what this command has so far.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.rows = path, list[Trial]()
        self._known = {(each.setting, each.look): each for each in _read(path)}
        self.resumed = 0
        self._written = time.monotonic()

    def known(self, setting: Setting, look: int) -> Trial | None:
        """Return a trial that is finished, by this command or an earlier one."""
        return self._known.get((setting.key, look))

    def keep(self, trial: Trial) -> None:
        """Keep a trial as it is finished; writing the file for each would take ever longer."""
        self._known[trial.setting, trial.look] = trial
        if time.monotonic() > self._written + EVERY_S:
            self.flush()

    def add(self, trial: Trial) -> None:
        """Give a finished trial its place among those that were asked for."""
        self.rows.append(trial)

    def flush(self) -> None:
        """Write what there is; those that are yet to be given a place, or may still be asked for, come last."""
        asked = {(each.setting, each.look) for each in self.rows}
        self._write([*self.rows, *(each for key, each in self._known.items() if key not in asked)])
        self._written = time.monotonic()

    def settle(self) -> None:
        """Leave what this command asked for, and nothing else."""
        self._known = {(each.setting, each.look): each for each in self.rows}
        self.flush()

    def _write(self, rows: Sequence[Trial]) -> None:
        if self.path is None:
            return
        columns = [{"trial": number, **asdict(row)} for number, row in enumerate(rows)]
        write_parquet(pa.Table.from_pylist(columns, schema=TRIALS), self.path, KIND)


def _read(path: Path | None) -> list[Trial]:
    if path is None or not path.exists():
        return []
    rows: list[dict[str, Any]] = read_parquet(path, KIND, TRIALS).to_pylist()
    try:
        return [
            Trial(**{k: v for k, v in row.items() if k not in ("trial", "limits")}, limits=_limits(row)) for row in rows
        ]
    except TypeError as error:
        raise LapsbenchError("holds no trials", where=str(path), hint="another --out") from error


def _limits(row: dict[str, Any]) -> tuple[Judged, ...]:
    return tuple(Judged(**each) for each in row["limits"])
