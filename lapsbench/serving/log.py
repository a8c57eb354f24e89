"""Writes the step log: what every step of a served engine did for whom, as JSON lines that other commands read.

The first line says whose rules and which settings; then a line when a request arrives or leaves, and one a step. Stamps
are the scheduler's clock. Nothing is kept: a server that is killed leaves all steps but the one that ran.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapsbench.errors import LapsbenchError
from lapsbench.store.steps import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Row:
    """What a step does for one request; one that lost its place has no tokens in it."""

    request: int
    tokens: int = 0
    cached: int = 0
    drafts: int = 0
    preempted: bool = False


class StepLog:
    """A step log that is being written.

    Raises:
        LapsbenchError: the file cannot be written.
    """

    def __init__(self, path: str, header: Mapping[str, Any]) -> None:
        try:
            self.file = Path(path).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115 - open while the engine is
        except OSError as error:
            what = f"cannot write: {error.strerror}"
            raise LapsbenchError(what, where=f"log {path}", hint="a file in a folder that exists") from error
        self.under_way: deque[tuple[int, float, list[Row]]] = deque()
        self.lost: list[Row] = []
        self.write({"schema": SCHEMA, **header})

    def write(self, line: Mapping[str, Any]) -> None:
        """Write one line."""
        self.file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def arrived(self, request: int, name: str, seen: Mapping[str, Any]) -> None:
        """Note an arrival; `request` counts them from 0, `name` is the engine's."""
        known = {field: seen[field] for field in ("arrival_s", "prompt_tokens", "predicted_tokens")}
        self.write({"request": request, "id": name, **known})

    def left(self, request: int, status: str, at_s: float) -> None:
        """Note that a request left: finished, aborted or rejected."""
        self.write({"request": request, "status": status, "at_s": at_s})

    def composed(self, number: int, start_s: float, rows: list[Row]) -> None:
        """Note what was put into a step; without anybody in it, who lost their place for it waits for the next."""
        self.lost += [row for row in rows if not row.tokens]
        if scheduled := [row for row in rows if row.tokens]:
            self.under_way.append((number, start_s, scheduled + self.lost))
            self.lost = []

    def ran(self, end_s: float, emitted: Mapping[int, int]) -> None:
        """Write the oldest step under way, with what it emitted for whom."""
        number, start_s, rows = self.under_way.popleft()
        told = [
            {
                "request": row.request,
                "tokens": row.tokens,
                "cached": row.cached,
                "drafts": row.drafts,
                "emitted": emitted.get(row.request, 0) if row.tokens else 0,
                "preempted": row.preempted,
            }
            for row in rows
        ]
        # arrivals are let in until the step is composed
        self.write({"step": number, "start_s": start_s, "end_s": end_s, "admit_s": start_s, "rows": told})

    def close(self) -> None:
        """Close the file."""
        self.file.close()
