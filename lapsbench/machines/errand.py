"""What machines can be sent on: to do one thing many times over, each time with another task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Task = TypeVar("Task", contravariant=True)  # noqa: PLC0105 - the two as everybody calls them
Done = TypeVar("Done", covariant=True)  # noqa: PLC0105


class Errand(Protocol[Task, Done]):
    """Travels to every worker once, pickled; its tasks travel one by one."""

    @property
    def large(self) -> Sequence[object]:
        """What of it travels on its own, known by its content: once to a worker, in however many errands."""

    @property
    def rules(self) -> str:
        """Whose rules it replays by: the first process of a machine compiles those."""

    def warm(self, task: Task) -> None:
        """Do as little of a task as has everything compiled that tasks take."""

    def do(self, task: Task) -> Done:
        """Do a task."""

    def told(self, task: Task) -> str:
        """Return a task in words."""
