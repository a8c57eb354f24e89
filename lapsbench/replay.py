"""One replay from scenario to result: run the sweep, boil cells down, keep the run folder. Prints nothing."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import sys
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapsbench import __version__
from lapsbench.acceptance import cut
from lapsbench.boiling import Boiling, where
from lapsbench.command import as_command
from lapsbench.core import LARGE
from lapsbench.drafts.registry import find
from lapsbench.engines import rules_version
from lapsbench.errors import LapsbenchError
from lapsbench.metrics.comparison import compare
from lapsbench.metrics.estimates import estimate_rows
from lapsbench.metrics.result import ReplayResult
from lapsbench.metrics.rows import summary_rows
from lapsbench.needs import needs
from lapsbench.patience import patience_rows
from lapsbench.planning import plan as plan_of
from lapsbench.policies.registry import spec_of
from lapsbench.policies.work import OF_TODAY
from lapsbench.schedules import nominal
from lapsbench.sim import kernel
from lapsbench.sim.sweep import Cell, Result, Sweep
from lapsbench.store.run import MANIFEST, CellKey, Kind, RunFolder, content_key

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from lapsbench.boiling import Boiled
    from lapsbench.core import Controller, Engine, Outcome, Policy, Trace
    from lapsbench.machines.machines import Machines
    from lapsbench.metrics.summary import CellSummary
    from lapsbench.scenario import Scenario
    from lapsbench.sim.sweep import Plan, Server, Simulator

ROOMS = ("compiled", "sim", "policies", "drafts", "acceptance", "traces", "core.py", "schedules.py", "streams.py")
"""What an outcome depends on besides its inputs: editing any of these makes old cells stale."""


class Replayer:
    """A scenario made ready to run; `close` lets go of its folder.

    Attributes:
        kind: of run: whether cells are replayed or served for real.

    Args:
        scenario: what to replay.
        out: run folder, or None to keep nothing.
        say: told what is being waited for.
    """

    kind: Kind = "simulated"

    def __init__(self, scenario: Scenario, out: Path | None, say: Callable[[str], None] = lambda _: None) -> None:
        self.scenario = scenario
        self.slo = scenario.parsed_slo
        self.rules_version = self.version()
        self.plan, self.baseline = plan_of(scenario)
        self.resumed = 0
        self.remarks: list[str] = cut.remark(self.plan.profile, self.plan.engine.draft_tokens)
        self._base = _base_key(self.plan, self.rules, *self.also())
        with ExitStack() as held:
            # before anything is compiled or replayed: a bad --out should fail at once
            self.folder = (
                held.enter_context(closing(RunFolder(out, scenario.engine, self.kind))) if out is not None else None
            )
            self.sweep = Sweep(self.plan, say, _simulator(scenario), self.server())
            self.check()
            if compiler := sys.modules.get("lapsbench.compiled.compiler"):  # else: nothing had to be compiled
                self.remarks += [compiler.remark] if compiler.remark else []
            if self.folder is not None:
                self.remarks += [self.folder.remark] if self.folder.remark else []
                self.folder.write_manifest(self.manifest())
            self.close = held.pop_all().close

    def version(self) -> str:
        """Return the version of the engine's rules."""
        return rules_version(self.scenario.engine)

    def also(self) -> tuple[object, ...]:
        """Return what cells depend on beside the plan."""
        return ()

    def server(self) -> Server | None:
        """Return what serves cells for real; None: they are replayed."""
        return None

    def check(self) -> None:
        """Refuse what only shows when the sweep is ready."""

    @property
    def command(self) -> str:
        """The command that does this again."""
        return as_command(self.scenario)

    @property
    def rules(self) -> str:
        """Whose rules, with their version."""
        return f"{self.scenario.engine} {self.rules_version}".strip()

    @property
    def requests(self) -> int:
        """Requests of all cells together: what progress counts up to."""
        return len(self.plan.trace) * len(self.plan.cells)

    def run(
        self,
        jobs: int = 1,
        progress: Callable[[int], None] | None = None,
        *,
        patience: bool = False,
        machines: Machines | None = None,
    ) -> ReplayResult:
        """Run what is not yet on disk and return the whole result.

        Args:
            jobs: cells at a time.
            progress: called with the number of requests that have left since the last call.
            patience: keep a line over it for a page.
            machines: who replays the cells in place of this process.
        """
        summaries: dict[tuple[str, float | None, int], CellSummary] = {}
        cuts: dict[tuple[float | None, int], int] = {}
        with closing(self._boiled(jobs, progress or (lambda _: None), machines)) as cells:
            for cell, boiled in cells:
                summaries[where(cell)], cuts[cell.load, cell.seed] = boiled.summary, boiled.cut
        ordered = [summaries[cell.name, cell.load, cell.seed] for cell in self.cells]
        comparisons = tuple(compare(ordered, self.baseline))
        if self.folder is not None:
            keys = [self.key(cell) for cell in self.cells]
            self._remark(self.folder, keys)
            patience &= len(self.plan.trace) <= LARGE
            line = patience_rows(self.plan, self.sweep.today, cuts, self.sweep.replay) if patience else []
            self.folder.gather(keys, summary_rows(ordered, comparisons), self._estimates(), line)
        return self._result(tuple(ordered), comparisons)

    def manifest(self) -> dict[str, Any]:
        """Return what `manifest.json` holds: the resolved scenario, versions, hashes and provenance."""
        plan, calibration = self.plan, self.sweep.calibration
        return {
            "schema": MANIFEST,
            "lapsbench": __version__,
            "code": code_key()[:32],
            "sources": {spec_of(policy): _source(policy)[:32] for policy in plan.policies},
            "scenario": self.scenario.model_dump(mode="json"),
            "command": self.command,
            "baseline": self.baseline,
            "predict": plan.predictor.label,
            "oracles": [spec_of(policy) for policy in plan.policies if policy.is_oracle],
            "bounds": {spec_of(policy): policy.bounds for policy in plan.policies if policy.bounds},
            "needs": self.needs,
            "versions": {"python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in ("numba", "numpy", "polars", "pyarrow")},
            "trace": {
                "name": plan.trace.name,
                "requests": len(plan.trace),
                "sha256_32": _trace_key(plan.trace),
                "provenance": dict(plan.trace.provenance),
                "notes": list(self.notes),
            },
            "profile": {
                "name": plan.profile.name,
                "label": plan.profile.label,
                "sha256_32": _profile_key(plan),
                "provenance": dict(plan.profile.provenance),
            },
            "kind": self.kind,
            "engine": _engine(plan.engine),
            "rules": self.scenario.engine,
            "rules_version": self.rules_version,
            "capacity_rps": self.sweep.capacity_rps,
            "calibration": calibration.source if calibration else None,
            "cells": [asdict(self.key(cell)) for cell in self.cells],
        }

    def _estimates(self) -> list[dict[str, Any]]:
        return estimate_rows(self.sweep.prepared(self.plan.seeds[0])[0], nominal(self.plan.engine))

    def _remark(self, folder: RunFolder, keys: list[CellKey]) -> None:
        if self.resumed:
            self.remarks.append(f"resumed: {self.resumed} of {len(keys)} cells were already in {folder.folder}")
        if replaced := folder.replaced(keys):
            self.remarks.append(f"replaced: {replaced} cells of another command that were in {folder.folder}")

    @property
    def cells(self) -> list[Cell]:
        """Cells as a reader wants them: by load, then policy as typed, then seed."""
        plan = self.plan
        return [Cell(policy, load, seed) for load in plan.loads for policy in plan.policies for seed in plan.seeds]

    def _boiled(
        self, jobs: int, progress: Callable[[int], None], machines: Machines | None
    ) -> Generator[tuple[Cell, Boiled]]:
        """Replay what is not on disk, here or elsewhere; keep it as it comes in."""
        boil = Boiling(self.slo, self.sweep.capacity_rps)
        if machines is None:
            with closing(self.sweep.run(jobs, self._kept, progress)) as results:
                for result in results:
                    self.resumed += result.resumed
                    if self.folder is not None and not result.resumed:
                        self.folder.keep(self.key(result.cell), result.work, result.outcome)
                    cell, boiled = result.cell, boil(result)
                    del result  # of 27 million requests, 1.6 GB that the next cell takes
                    yield cell, boiled
            return
        left = []
        for cell in self.plan.cells:
            if (outcome := self._kept(cell)) is None:
                left.append(cell)
            else:
                self.resumed += 1
                progress(len(self.plan.trace))
                yield cell, boil(Result(cell, self.sweep.given(cell)[0], outcome, resumed=True))
        keys = {where(cell): self.key(cell) for cell in left} if self.folder is not None else {}
        from lapsbench.machines.cells import replayed  # noqa: PLC0415 - only where it is asked for

        with closing(replayed(machines, self.sweep, left, replace(boil, keys=keys))) as results:
            for cell, boiled in results:
                progress(len(self.plan.trace))
                if self.folder is not None:
                    self.folder.put(self.key(cell), boiled.content)
                yield cell, boiled

    def _result(self, cells: tuple[CellSummary, ...], comparisons: tuple[Any, ...]) -> ReplayResult:
        plan, calibration = self.plan, self.sweep.calibration
        return ReplayResult(
            trace=plan.trace.name,
            profile=plan.profile.name,
            predict=plan.predictor.label,
            engine=plan.engine,
            rules=self.rules,
            rate_rps=plan.rate_rps,
            capacity_rps=self.sweep.capacity_rps,
            baseline=self.baseline,
            slo=self.slo,
            cells=cells,
            comparisons=comparisons,
            provenance=plan.profile.label,
            calibration=calibration.source if calibration else "",
            notes=self.notes,
            tail=self.scenario.tail,
            needs=self.needs,
            executed=self.executed,
        )

    @property
    def executed(self) -> str:
        """Say on what it was served; "" for a replay."""
        return ""

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """What running each real policy takes."""
        plan = self.plan
        real = (policy for policy in plan.policies if not policy.is_oracle)
        return {spec_of(policy): needs(policy, plan.engine, plan.predictor.label) for policy in real}

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of the trace had to do, and what patience today's fcfs gave."""
        return (*self.plan.trace.notes, *self._patience())

    def _patience(self) -> Iterator[str]:
        for load, today in self.sweep.today.items():
            where = "" if load is None else f" at load {load:g}"
            patience = f"{OF_TODAY * today.p99_s:.3g} s, {OF_TODAY:g} x today's fcfs p99"
            grows = (
                "" if today.keeps_up else ", which fcfs does not hold there: give one, as work-patient:patience_s=30"
            )
            yield f"patience of work-patient{where}: {patience}{grows}"

    def _kept(self, cell: Cell) -> Outcome | None:
        if self.folder is None:
            return None
        return self.folder.finished(self.key(cell), self.sweep.prepared(cell.seed)[1].alone_s)

    def key(self, cell: Cell) -> CellKey:
        """Return what a cell is known by on disk."""
        policy = cell.policy
        how = (policy.preemptive, policy.rerank, policy.oracle, policy.knows, policy.client_weights)
        key = content_key(self._base, cell.name, how, _source(cell.policy), cell.load, cell.seed)
        return CellKey(cell.name, cell.load, cell.seed, key)


def _simulator(scenario: Scenario) -> Simulator:
    """Return what replays a cell: the compiled kernel, or the installed vLLM."""
    if scenario.engine == "vllm-native":
        from lapsbench.vllm.referee import replay  # noqa: PLC0415 - vLLM takes seconds to import

        return replay
    return kernel.replay


def _base_key(plan: Plan, rules: str, *also: object) -> str:
    history = plan.history
    return content_key(
        code_key(),
        _trace_key(plan.trace),
        _profile_key(plan),
        _engine(plan.engine),
        rules,
        plan.predictor.label,
        plan.rate_rps,
        *((_source(find(plan.engine.drafts)),) if plan.engine.drafts else ()),
        plan.seeds[0],  # capacity is measured with the first seed
        "bank" if history is None else _trace_key(history),
        *also,
    )


def _engine(engine: Engine) -> dict[str, Any]:
    """Return the engine's settings; drafts that do not vary add nothing to the keys of older runs."""
    settings = asdict(engine)
    for name in ("drafts", "schedule"):
        if not settings[name]:
            del settings[name]
    return settings


def _source(policy: Policy | Controller) -> str:
    """Return the hash of the whole file a policy is from: what its rank function calls may stand beside it."""
    try:
        return hashlib.sha256(Path(policy.rank.__code__.co_filename).read_bytes()).hexdigest()
    except OSError as error:
        raise LapsbenchError(
            "its source cannot be read", where=f"policy {policy.name!r}", hint="defining it in a file"
        ) from error


def _trace_key(trace: Trace) -> str:
    columns = (trace.category, trace.client_id, trace.prompt_id, trace.predicted_tokens)
    told = () if trace.priority is None else (trace.priority,)  # without it, the key of older runs
    return content_key(trace.arrival_s, trace.prompt_tokens, trace.output_tokens, *columns, *told)


def _profile_key(plan: Plan) -> str:
    costs, bank = plan.profile.costs, plan.profile.bank
    arrays = [costs.component, costs.batch_size, costs.query_tokens, costs.context_tokens, costs.time_s]
    arrays += [each for each in (costs.verify_tokens, costs.chunk_context_tokens) if each is not None]
    if bank is not None:
        arrays += [bank.prompt_id, bank.category, bank.prompt_tokens, bank.output_tokens, bank.accept_runs]
        arrays += [] if bank.drafted is None else [bank.drafted]
    return content_key(*arrays)


def code_key(rooms: tuple[str, ...] = ROOMS) -> str:
    """Return the hash of our own code in these rooms and files."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for room in rooms:
        for file in sorted([package / room] if room.endswith(".py") else (package / room).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
