"""A run folder back into the result it was made of: the same cells, ratios and sentences as `replay` printed.

Everything is computed again from requests.parquet, which holds every float exactly, and held against summary.parquet:
a page never shows a number that the files do not hold. Knows nothing of simulation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapsbench.core import LARGE, Engine
from lapsbench.errors import LapsbenchError
from lapsbench.metrics.choice import TAIL
from lapsbench.metrics.comparison import compare
from lapsbench.metrics.in_parts import Gathering, Part
from lapsbench.metrics.result import ReplayResult
from lapsbench.metrics.rows import summary_rows
from lapsbench.metrics.slo import Slo
from lapsbench.metrics.summary import summarize
from lapsbench.store.saved import AGAIN, SavedRun

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lapsbench.metrics.summary import CellSummary
    from lapsbench.store.saved import Requests, SavedCell


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its folder as typed, its files, and what they say."""

    name: str
    saved: SavedRun
    result: ReplayResult


def open_run(folder: str, progress: Callable[[], None] = lambda: None) -> Run:
    """Read a run folder; `progress` is called after every cell.

    Raises:
        LapsbenchError: not a finished run, or one whose files contradict each other.
    """
    saved = SavedRun(Path(folder))
    cells = []
    for cell in saved.cells:
        cells.append(_large(saved, cell) if saved.size(cell) > LARGE else summary_of(saved, cell, saved.requests(cell)))
        progress()
    run = Run(folder, saved, _result(saved, tuple(cells)))
    _agree(run)
    return run


def summary_of(saved: SavedRun, cell: SavedCell, requests: Requests, warmup: int | None = None) -> CellSummary:
    """Boil one cell down as `replay` did; `warmup` cuts more or fewer arrivals than it did."""
    if warmup is None:
        warmup = warmup_of(saved, cell)
    slo = saved.part("scenario", "slo")
    return summarize(
        requests.arrival_s,
        requests.output_tokens,
        requests.outcome,
        policy=cell.policy,
        load=cell.load,
        seed=cell.seed,
        oracle=cell.policy in saved.part("oracles"),
        bounds=str(saved.manifest.get("bounds", {}).get(cell.policy, "")),
        warmup=warmup,
        slo=Slo.parse(slo) if slo else None,
        prompt_tokens=requests.prompt_tokens,
    )


def _large(saved: SavedRun, cell: SavedCell) -> CellSummary:
    """As `summary_of`, of more requests than are read at once."""
    found = gathering(saved, cell, warmup_of(saved, cell))
    for each in saved.parts(cell):
        found.add(Part(each.arrival_s, each.prompt_tokens, each.output_tokens, each.outcome))
    return gathered(saved, cell, found)


def gathering(saved: SavedRun, cell: SavedCell, warmup: int) -> Gathering:
    """Return what the summary of a cell is to be made of, part by part."""
    slo, (first_s, last_s) = saved.part("scenario", "slo"), saved.span_s(cell)
    return Gathering(cell.policy, saved.size(cell), first_s, last_s, warmup, Slo.parse(slo) if slo else None)


def gathered(saved: SavedRun, cell: SavedCell, found: Gathering) -> CellSummary:
    """Return the summary of a cell whose parts have all been added."""
    oracle, bounds = cell.policy in saved.part("oracles"), str(saved.manifest.get("bounds", {}).get(cell.policy, ""))
    return found.summary(load=cell.load, seed=cell.seed, oracle=oracle, bounds=bounds)


def warmup_of(saved: SavedRun, cell: SavedCell) -> int:
    """Return how many of the first arrivals `replay` left out of the cell's latencies."""
    row = saved.summary.get((cell.policy, cell.load, cell.seed, "warmup", "count"))
    if row is None:
        raise LapsbenchError(
            f"has no row for {cell.policy}, seed {cell.seed}",
            where=str(saved.folder / "summary.parquet"),
            hint=AGAIN,
        )
    return row[3]


def _result(saved: SavedRun, cells: tuple[CellSummary, ...]) -> ReplayResult:
    slo = saved.part("scenario", "slo")
    baseline = saved.part("baseline")
    return ReplayResult(
        trace=saved.part("trace", "name"),
        profile=saved.part("profile", "name"),
        predict=saved.part("predict"),
        engine=Engine(**{k: v for k, v in saved.part("engine").items() if k in {each.name for each in fields(Engine)}}),
        rules=f"{saved.manifest.get('rules', 'ideal')} {saved.manifest.get('rules_version', '')}".strip(),
        rate_rps=saved.part("scenario", "rate"),
        capacity_rps=saved.part("capacity_rps"),
        baseline=baseline,
        slo=Slo.parse(slo) if slo else None,
        cells=cells,
        comparisons=compare(cells, baseline),
        provenance=saved.part("profile", "label"),
        calibration=saved.part("calibration") or "",
        notes=tuple(saved.part("trace", "notes")),
        tail=float(saved.part("scenario").get("tail", TAIL)),
        executed=executed(saved.manifest),
        needs={policy: tuple(each) for policy, each in saved.manifest.get("needs", {}).items()},
    )


def executed(manifest: Mapping[str, Any]) -> str:
    """Say on what a run was served for real, and by which clock; "" for a replay."""
    told = manifest.get("executed")
    if manifest.get("kind") != "executed" or not isinstance(told, dict):
        return ""
    named = [str(told[name]).rstrip("/") for name in ("target", "draft") if told.get(name)]
    models = " + ".join(name.rpartition("/")[2] for name in named)
    return f"{told.get('engine')} {told.get('version')}, {models}, clock {told.get('clock')}"


def _agree(run: Run) -> None:
    """Refuse a folder whose requests do not add up to its summary."""
    columns = summary_rows(run.result.cells, run.result.comparisons)
    rows = zip(*columns.values(), strict=True)
    for policy, load, seed, metric, statistic, *found in rows:
        stored = run.saved.summary.get((policy, load, seed, metric, statistic))
        if stored is None or not all(map(_same, found[:3], stored[:3])):
            at = ", ".join([policy, *([] if load is None else [f"load {load:g}"])])
            where = str(run.saved.folder / "summary.parquet")
            what = f"does not say what requests.parquet does: {metric} {statistic} of {at}"
            raise LapsbenchError(what, where=where, hint=AGAIN)


def _same(found: float | None, stored: float | None) -> bool:
    """Whether two numbers are one, but for how another machine adds up."""
    if found is None or stored is None:
        return found is stored
    return math.isclose(found, stored, rel_tol=1e-9, abs_tol=1e-12)
