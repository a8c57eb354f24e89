"""A scenario served for real: planned, kept, resumed and boiled down as a replay, but each cell by a child process.

The profile's part: capacity, predictions, what policies learn, imposed acceptance, and JCT alone, the unit of slowdown.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapsbench.command import as_command
from lapsbench.errors import UsageError
from lapsbench.execution.installed import check_installed
from lapsbench.execution.outcome import outcome_of
from lapsbench.execution.process import ask
from lapsbench.execution.progress import Departures
from lapsbench.execution.settings import accepting, model_key, settled
from lapsbench.execution.wanted import SHIPPED, Prepare, Prepared, Serve
from lapsbench.files import content
from lapsbench.policies.registry import spec_of
from lapsbench.policies.uses import wants_today
from lapsbench.policies.work import OF_TODAY
from lapsbench.reading import executed
from lapsbench.replay import ROOMS, Replayer, code_key
from lapsbench.store.run import content_key
from lapsbench.store.steps import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.core import Outcome, Workload
    from lapsbench.execution.wanted import Wanted
    from lapsbench.scenario import Scenario
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup
    from lapsbench.sim.sweep import Cell, Server
    from lapsbench.store.run import Kind
    from lapsbench.store.step_cells import StepCells

SERVING = ("execution", "serving", "vllm", "decoding", "models")
"""Rooms that an outcome depends on beside those of a replay."""


def looked_at(wanted: Wanted) -> Prepared:
    """Have a child look at the models.

    Raises:
        LapsbenchError: no such engine or model.
    """
    check_installed(wanted.engine)
    return Prepared(**ask(Prepare(wanted))["prepared"])


class Executor(Replayer):
    """A scenario made ready to be served; `close` lets go of its folder.

    Args:
        scenario: what to serve, with the engine's rules.
        wanted: on what.
        out: run folder.
        say: told what is being waited for.
    """

    kind: Kind = "executed"

    def __init__(
        self, scenario: Scenario, wanted: Wanted, out: Path, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.typed, self.asked = scenario, wanted
        say("looking at the models")
        self.prepared = looked_at(wanted)
        self.wanted = accepting(scenario, wanted, self.prepared)
        super().__init__(settled(scenario, self.wanted, self.prepared), out, say)

    def version(self) -> str:
        """Return the version of the engine's rules: of vLLM, the installed one."""
        return self.prepared.version if self.wanted.engine == "vllm" else super().version()

    def also(self) -> tuple[object, ...]:
        """Return what cells depend on beside the plan: who serves, with which models and texts."""
        wanted = {name: value for name, value in asdict(self.wanted).items() if name != "prompts"}
        prompts = self.wanted.prompts
        texts = content_key(content(Path(prompts)).hex()) if prompts not in (None, SHIPPED) else prompts or ""
        models = [model_key(each) for each in (self.prepared.model, self.prepared.draft) if each]
        return wanted, texts, models, self.prepared.version, self.prepared.device, code_key(SERVING)

    def server(self) -> Server:
        """Return what serves cells."""
        return self._serve

    def check(self) -> None:
        """Refuse a patience that counts in what fcfs does today: nobody has measured that on this engine.

        Raises:
            UsageError: with the patience that a replay would take.
        """
        for policy in filter(wants_today, self.plan.policies):
            values = {load: OF_TODAY * today.p99_s for load, today in self.sweep.today.items()}
            at = {load: "" if load is None else f" at load {load:g}" for load in values}
            hint = ", ".join(f"{policy.name}:patience_s={value:.3g}{at[load]}" for load, value in values.items())
            what = "counts its patience in today's fcfs p99, which only a replay knows"
            raise UsageError(what, where=f"--policy {spec_of(policy)}", hint=f"what a replay would take: {hint}")

    @property
    def command(self) -> str:
        """The command that does this again."""
        own = {name: value for name, value in asdict(self.asked).items() if (name, value) != ("clock", "cpu")}
        return as_command(self.typed, "execute", own)

    @property
    def executed(self) -> str:
        """Say on what it was served."""
        return executed(self.manifest())

    def manifest(self) -> dict[str, Any]:
        """Return what `manifest.json` holds: that of a replay, and who served."""
        told = asdict(self.wanted) | {"version": self.prepared.version, "device": self.prepared.device}
        return super().manifest() | {"executed": told, "code": code_key((*ROOMS, *SERVING))[:32]}

    def _serve(
        self, cell: Cell, work: Workload, setup: Setup, costs: StepCosts, progress: Callable[[int], None]
    ) -> Outcome:
        """Have a child serve a cell; keep its steps."""
        key = self.key(cell)
        log = self.steps.log(key)
        log.unlink(missing_ok=True)
        left = Departures(log, progress)
        asked = Serve(
            wanted=self.wanted,
            prepared=self.prepared,
            work=work,
            setup=setup,
            engine=self.plan.engine,
            costs=costs,
            policy=self._typed(cell),
            name=cell.policy.name,
            log=str(log),
        )
        where = f"{cell.name}{'' if cell.load is None else f', load {cell.load:g}'}, seed {cell.seed}"
        self.ask(asked, left, lambda: f" after {left.count} of {len(work)} requests ({where})")
        steps = parse(content(log), str(log))
        self.steps.keep(key, steps)
        return outcome_of(steps, work, setup.alone_s)

    def ask(self, asked: Serve, watch: Callable[[], None], done: Callable[[], str]) -> None:
        """Have a child of its own serve a cell."""
        ask(asked, watch, done)

    @property
    def steps(self) -> StepCells:
        """The steps of cells, on disk."""
        assert self.folder is not None  # noqa: S101 - a real run is always kept
        assert self.folder.steps is not None  # noqa: S101 - as every folder of an executed run
        return self.folder.steps

    def _typed(self, cell: Cell) -> str:
        """Return a cell's policy as it was typed: a name that tells it apart may not say where it is from."""
        named = zip(self.plan.policies, self.scenario.policies, strict=True)
        return next(typed for policy, typed in named if spec_of(policy) == cell.name)
