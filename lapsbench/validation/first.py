"""A first serving of a trace, for what its requests accept by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.acceptance.served import had
from lapsbench.execution.executor import Executor
from lapsbench.store.step_cells import StepCells

if TYPE_CHECKING:
    from lapsbench.acceptance.served import Had


class First(Executor):
    """A serving that is only for what requests accept."""

    def had(self) -> Had:
        """Serve, unless that was done; return what was accepted."""
        self.run()
        steps = StepCells(self.steps.whole.parent)  # as they lie there now
        return had(steps.load(self.key(self.cells[0])), len(self.plan.trace))
