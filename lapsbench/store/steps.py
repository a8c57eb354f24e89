"""A step log, as `lapsbench.vllm` writes it: who arrived and left, and what every step did for whom.

JSON lines: a header, then a line when a request arrives or leaves, and one a step (docs/step-log.md). A line that was
cut off at the very end, as a killed server leaves it, is passed over and said.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from lapsbench.core import TOKENS_MOST
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lapsbench.core import Floats, Longs

SCHEMA = "lapsbench.steps/1"
LEFT = ("finished", "aborted", "rejected")
ROW = ("step", "request", "tokens", "cached", "drafts", "emitted", "preempted")
"""Columns of `Steps.rows`; the first is the number of the step's line, from 0."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that arrived, under the engine's name for it."""

    request: int
    id: str
    arrival_s: float
    prompt_tokens: int
    predicted_tokens: float


@dataclass(frozen=True, slots=True)
class Departure:
    """How a request left, and when."""

    status: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Steps:
    """A step log.

    Attributes:
        header: its first line.
        arrivals: in the order of their lines, which is that of their numbers.
        departures: of those that left, by number.
        start_s, end_s, admit_s: float64 [S]; arrivals up to admit_s were let into the step.
        rows: int64 [R, 7], as `ROW` says.
        notes: what was passed over, for people.
    """

    header: Mapping[str, Any]
    arrivals: tuple[Arrival, ...]
    departures: Mapping[int, Departure]
    start_s: Floats
    end_s: Floats
    admit_s: Floats
    rows: Longs
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> Longs:
        """Return a column of `rows`."""
        return self.rows[:, ROW.index(name)]

    @property
    def emitted(self) -> Longs:
        """Tokens emitted for each arrival: int64 [N]."""
        counts = np.bincount(self.column("request"), self.column("emitted"), len(self.arrivals))
        return counts.astype(np.int64)


def is_step_log(content: bytes) -> bool:
    """Say whether a file begins as a step log does."""
    try:
        first = json.loads(content.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and str(first.get("schema", "")).startswith("lapsbench.steps/")


def parse(content: bytes, where: str) -> Steps:
    """Read a step log.

    Args:
        content: of the file.
        where: what it is called in errors.

    Raises:
        LapsbenchError: it is none, or of another version, or a line of it is damaged.
    """
    if not is_step_log(content):
        hint = "a log that lapsbench.vllm wrote: its first line names the schema"
        raise LapsbenchError("is no step log", where=where, hint=hint)
    lines = content.split(b"\n")
    notes: tuple[str, ...] = ()
    if last := lines.pop():
        notes = (f"line {len(lines) + 1} is cut off: passed over",)
        lines = lines or [last]
    reading = _Reading(where)
    for number, line in enumerate(lines, 1):
        reading.line = number
        if line.strip():
            reading.take(line)
    return reading.steps(notes)


@dataclass
class _Reading:
    """A log while it is read."""

    where: str
    line: int = 0
    header: dict[str, Any] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    departures: dict[int, Departure] = field(default_factory=dict)
    times: list[tuple[float, float, float]] = field(default_factory=list)
    rows: list[tuple[int, ...]] = field(default_factory=list)

    def steps(self, notes: tuple[str, ...]) -> Steps:
        times = np.array(self.times, np.float64).reshape(-1, 3)
        rows = np.array(self.rows, np.int64).reshape(-1, len(ROW))
        start_s, end_s, admit_s = times.T.copy()
        return Steps(self.header, tuple(self.arrivals), self.departures, start_s, end_s, admit_s, rows, notes)

    def take(self, text: bytes) -> None:
        """Take the next line."""
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            self.refuse("is not JSON", error)
        if not isinstance(line, dict):
            self.refuse("is no object")
        if self.line == 1:
            self.begin(line)
        elif "step" in line:
            self.step(line)
        elif "status" in line:
            self.departure(line)
        elif "arrival_s" in line:
            self.arrival(line)
        else:
            self.refuse("is neither an arrival, nor a departure, nor a step")

    def begin(self, line: dict[str, Any]) -> None:
        if line["schema"] != SCHEMA:
            hint = f"a lapsbench that reads it; this one reads {SCHEMA}"
            raise LapsbenchError(f"is of version {line['schema']!r}", where=self.where, hint=hint)
        for name in ("engine", "rules_version", "policy", "on_preempt"):
            if not isinstance(line.get(name), str):
                self.refuse(f"has no {name!r}")
        self.header = line

    def arrival(self, line: dict[str, Any]) -> None:
        if self.whole(line, "request") != len(self.arrivals):
            self.refuse(f"is of request {line['request']}, and the next is {len(self.arrivals)}")
        prompt = self.whole(line, "prompt_tokens")
        predicted = self.number(line, "predicted_tokens")
        self.arrivals.append(
            Arrival(len(self.arrivals), str(line.get("id")), self.number(line, "arrival_s"), prompt, predicted)
        )

    def departure(self, line: dict[str, Any]) -> None:
        request = self.known(line)
        if line["status"] not in LEFT:
            self.refuse(f"says {line['status']!r}, which is none of {', '.join(LEFT)}")
        if request in self.departures:
            self.refuse(f"has request {request} leave once more")
        self.departures[request] = Departure(line["status"], self.number(line, "at_s"))

    def step(self, line: dict[str, Any]) -> None:
        start_s, end_s, admit_s = (self.number(line, name) for name in ("start_s", "end_s", "admit_s"))
        if end_s < start_s:
            self.refuse(f"ends at {end_s}, before it starts")
        rows = line.get("rows")
        if not isinstance(rows, list):
            self.refuse("has no 'rows'")
        for row in rows:
            if not isinstance(row, dict):
                self.refuse("has a row that is no object")
            sizes = [self.whole(row, name) for name in ROW[2:-1]]
            preempted = row.get("preempted")
            if not isinstance(preempted, bool):
                self.refuse(f"has {preempted!r} for 'preempted'")
            self.rows.append((len(self.times), self.known(row), *sizes, int(preempted)))
        self.times.append((start_s, end_s, admit_s))

    def known(self, line: dict[str, Any]) -> int:
        request = self.whole(line, "request")
        if request >= len(self.arrivals):
            self.refuse(f"is of request {request}, which has not arrived")
        return request

    def whole(self, line: dict[str, Any], name: str) -> int:
        value = line.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= TOKENS_MOST:
            self.refuse(f"has {value!r:.40} for {name!r}")
        return value

    def number(self, line: dict[str, Any], name: str) -> float:
        value = line.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            self.refuse(f"has {value!r:.40} for {name!r}")
        return float(value)

    def refuse(self, what: str, cause: Exception | None = None) -> NoReturn:
        hint = "the log as it was written"
        raise LapsbenchError(what, where=f"{self.where}, line {self.line}", hint=hint) from cause
