"""A finished replay as one record: what the table and `--json` need."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lapsbench.metrics.choice import TAIL, Choice, choices
from lapsbench.metrics.drafting import as_json
from lapsbench.metrics.verdicts import Verdict, verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lapsbench.core import Engine
    from lapsbench.metrics.comparison import Comparison
    from lapsbench.metrics.slo import Slo
    from lapsbench.metrics.summary import CellSummary

SCHEMA = "lapsbench.replay/1"


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """Everything a reader sees of one replay.

    Attributes:
        predict: the predictor as typed, for example "noisy:sigma=0.5".
        rate_rps: what `--rate` asked for; None with `--load` or on the trace's own clock.
        capacity_rps: what `--load` is a fraction of.
        cells: in the order policies, loads and seeds were asked for.
        comparisons: from `comparison.compare` with `baseline`.
        provenance: the profile's label, what its numbers are worth.
        calibration: where calibrated policies learnt; "" if no policy did.
        notes: what readers of trace and profile had to do, for people.
        tail: how many times today's p99 is borne.
        needs: policy -> what running it takes.
    """

    trace: str
    profile: str
    predict: str
    engine: Engine
    rate_rps: float | None
    capacity_rps: float
    baseline: str
    slo: Slo | None
    cells: tuple[CellSummary, ...]
    comparisons: tuple[Comparison, ...]
    provenance: str
    calibration: str = ""
    notes: tuple[str, ...] = ()
    rules: str = "ideal"
    """Whose rules, with their version where they have one."""
    tail: float = TAIL
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    executed: str = ""
    """On what it was served for real, and by which clock; "" for a replay."""

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Which scheduler to run, by load and aim."""
        return choices(
            self.cells,
            self.baseline,
            tail=self.tail,
            goodput=self.slo is not None,
            capacity_rps=self.capacity_rps,
            needs=self.needs,
        )

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The sentences people come for."""
        return verdicts(self.cells, self.choices, self.tail)


def to_json(result: ReplayResult) -> dict[str, Any]:
    """Return what `--json` writes (docs/files.md): JSON values only, undefined as None."""
    return {
        "schema": SCHEMA,
        "trace": result.trace,
        "profile": result.profile,
        "provenance": result.provenance,
        "predict": result.predict,
        "engine": asdict(result.engine),
        "rules": result.rules,
        **({"executed": result.executed} if result.executed else {}),
        "rate_rps": result.rate_rps,
        "capacity_rps": result.capacity_rps,
        "slo": asdict(result.slo) if result.slo else None,
        "baseline": result.baseline,
        "cells": [_cell(cell) for cell in result.cells],
        "comparisons": [asdict(each) for each in result.comparisons],
        "verdict": [_choice(each) for each in result.choices],
        "verdicts": [asdict(each) for each in result.verdicts],
        "calibration": result.calibration,
        "notes": list(result.notes),
    }


def _choice(each: Choice) -> dict[str, Any]:
    return {
        "load": each.load,
        "aim": each.aim,
        "policy": each.policy,
        "undecided": list(each.undecided),
        "value": each.value,
        "low": each.low,
        "high": each.high,
        "price": {"jct_p99": each.p99, "preemptions": each.preemptions},
        "proven": each.proven,
        "needs": list(each.needs or ()),
        "today": each.today,
    }


def _cell(cell: CellSummary) -> dict[str, Any]:
    return {
        "policy": cell.policy,
        "oracle": cell.oracle,
        "load": cell.load,
        "seed": cell.seed,
        "arrivals": cell.arrivals,
        "finished": cell.finished,
        "rejected": cell.rejected,
        "unfinished": cell.unfinished,
        "measured": cell.measured,
        "warmup": cell.warmup,
        "stopped": cell.stopped,
        "approximate": cell.approximate,
        "saturation": asdict(cell.saturation) if cell.saturation else None,
        "recomputing": asdict(cell.recomputing) if cell.recomputing else None,
        "drafting": as_json(cell.by_batch),
        "metrics": dict(cell.metrics),
    }
