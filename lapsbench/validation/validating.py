"""`lapsbench validate`, from settings to tables on disk: one session for each number of drafts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lapsbench.errors import LapsbenchError
from lapsbench.execution.executor import looked_at
from lapsbench.execution.settings import accepting, settled
from lapsbench.store.lock import FolderLock
from lapsbench.store.validated import FIGURES, RESULT, write_result
from lapsbench.traces.make import Order, make
from lapsbench.traces.save import write_trace
from lapsbench.validation import figures
from lapsbench.validation.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lapsbench.execution.wanted import Prepared, Wanted
    from lapsbench.scenario import Scenario
    from lapsbench.validation.session import Validation

PROMPTS, OUTPUTS = "quantiles:8,48,160", "quantiles:4,24,80"
"""Lengths of the trace that is made where none is given: a CPU serves a hundred such requests in half a minute."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """A whole command.

    Attributes:
        scenario: what is served and replayed; its profile is whose recordings are imposed.
        drafts: numbers of drafts, a session each.
        wanted: on what.
        out: the folder.
    """

    scenario: Scenario
    drafts: tuple[int, ...]
    wanted: Wanted
    out: Path


def validate(order: Ordered, say: Callable[[str], None], progress: Callable[[int], None]) -> dict[str, Any]:
    """Measure, serve and replay; write and return the tables.

    Raises:
        LapsbenchError: no such engine or model, or the folder holds something else.
    """
    out = order.out
    _refuse_foreign(out)
    scenarios = [order.scenario.model_copy(update={"draft_tokens": drafts}) for drafts in order.drafts]
    say("looking at the models")
    prepared = looked_at(order.wanted)
    kinds = [accepting(scenario, _imposing(order.wanted, scenario), prepared) for scenario in scenarios]
    out.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(out)
    try:
        trace = order.scenario.trace or _made(out, order.scenario.limit)
        found = []
        for scenario, wanted in zip(scenarios, kinds, strict=True):
            asked = settled(scenario.model_copy(update={"trace": trace}), wanted, prepared)
            session = Session(asked, wanted, out / f"k{scenario.draft_tokens}", say)
            found.append(session.run(prepared, asked, progress))
        return _written(order, prepared, found)
    finally:
        lock.release()


def _imposing(wanted: Wanted, scenario: Scenario) -> Wanted:
    """Return what is wanted, acceptance imposed unless it is to be the models': else a first serving records it."""
    return replace(wanted, acceptance=wanted.acceptance or "imposed") if scenario.draft_tokens else wanted


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder with other files in it."""
    if out.exists() and not out.is_dir():
        raise LapsbenchError("is no folder", where=f"--out {out}", hint="another --out")
    ours = {RESULT, FIGURES, "trace.csv"}
    if out.is_dir() and any(each.name not in ours and each.name[0] not in "k." for each in out.iterdir()):
        raise LapsbenchError("holds files that are no validation's", where=f"--out {out}", hint="another --out")


def _made(out: Path, requests: int | None) -> str:
    """Return a trace of short requests, made once."""
    path = out / "trace.csv"
    if not path.exists():
        order = Order(rate_rps=1.0, requests=requests or 100, arrivals="poisson", prompt=PROMPTS, output=OUTPUTS)
        write_trace(make(order), path)
    return str(path)


def _written(order: Ordered, prepared: Prepared, found: Sequence[Validation]) -> dict[str, Any]:
    """Put the tables on disk."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for each in found:
        for name, rows in each.tables().items():
            tables.setdefault(name, []).extend(rows)
    result = {
        "engine": f"{order.wanted.engine} {prepared.version}",
        "device": prepared.device,
        "target": order.wanted.target,
        "draft": order.wanted.draft,
        "acceptance": order.wanted.acceptance or "imposed",
        "requests": len(found[0].pairs[0].executed.jct_s),
        "drift": [text for each in found if (text := each.drift())],
        "kept": figures.kept(tables["figures"], tables["ratios"]),
        **tables,
    }
    write_result(order.out, result)
    return result
