"""A sweep's cells as tasks: each is replayed wherever there is room, and sends back what is to be had of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lapsbench.sim.compiling import replay_one

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from lapsbench.core import Floats, Outcome
    from lapsbench.machines.machines import Machines
    from lapsbench.sim.sweep import Cell, Result, Sweep

T = TypeVar("T")


def outcome_of(result: Result) -> Outcome:
    """Return what became of every request."""
    return result.outcome


def replayed(
    machines: Machines, sweep: Sweep, cells: Sequence[Cell], boil: Callable[[Result], T]
) -> Generator[tuple[Cell, T]]:
    """Yield each of the sweep's cells as it comes in, once, with what is to be had of it.

    Args:
        machines: who replays them.
        sweep: whose they are.
        cells: to replay, in this order or about.
        boil: what to make of a result there; pickled, so of an installed module; `outcome_of` sends all.

    Raises:
        LapsbenchError: a cell cannot be replayed, or is lost again and again, or the machines are gone for good.
    """
    numbers = {(cell.name, cell.load, cell.seed): number for number, cell in enumerate(sweep.plan.cells)}
    there = {numbers[cell.name, cell.load, cell.seed]: cell for cell in cells}
    for number, boiled in machines.results(Cells(sweep, boil), list(there)):
        yield there[number], boiled


class Cells(Generic[T]):
    """The errand; a task is the number of a cell in the sweep's plan."""

    def __init__(self, sweep: Sweep, boil: Callable[[Result], T]) -> None:
        self.sweep, self.boil = sweep, boil

    @property
    def large(self) -> list[object]:
        """Trace, profile and history."""
        plan = self.sweep.plan
        return [each for each in (plan.trace, plan.profile, plan.history) if each is not None]

    @property
    def rules(self) -> str:
        """The engine's."""
        return self.sweep.plan.engine.rules

    def warm(self, task: int) -> None:
        """Replay one request."""
        sweep, plan = self.sweep, self.sweep.plan
        policy = plan.cells[task].policy
        replay_one(plan.trace, plan.profile, plan.engine, plan.predictor, policy, sweep.costs, sweep.calibration)

    def do(self, task: int) -> T:
        """Replay a cell and boil it down."""
        return self.boil(self.sweep.result(self.sweep.plan.cells[task]))

    def told(self, task: int) -> str:
        """Return a cell in words."""
        cell = self.sweep.plan.cells[task]
        return f"{cell.name}{'' if cell.load is None else f' at load {cell.load:g}'}, seed {cell.seed}"

    def __getstate__(self) -> dict[str, Any]:
        """Take what policies have learnt along, in their order: its key is a function, which is another elsewhere."""
        return vars(self) | {"tables": self._tables()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tables = state.pop("tables")
        vars(self).update(state)
        if self.sweep.calibration is not None:
            for policy, table in zip(self.sweep.plan.policies, tables, strict=True):
                if table is not None:
                    self.sweep.calibration.tables[policy.calibrate, tuple(policy.parameters.items())] = table

    def _tables(self) -> list[Floats | None]:
        learnt = {} if self.sweep.calibration is None else self.sweep.calibration.tables
        return [learnt.get((each.calibrate, tuple(each.parameters.items()))) for each in self.sweep.plan.policies]
