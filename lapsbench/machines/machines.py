"""Gives tasks to a pool, a few ahead of what it does, and hands out what comes of them as it comes in.

A task that was lost with who did it is asked for again; one that is here never is.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, wait
from typing import TYPE_CHECKING, Any, TypeVar

from lapsbench import __version__
from lapsbench.errors import LapsbenchError
from lapsbench.machines import worker
from lapsbench.machines.parcel import packed, pickled
from lapsbench.machines.pool import AGAIN_S, Lost

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from lapsbench.machines.errand import Errand
    from lapsbench.machines.parcel import Part
    from lapsbench.machines.pool import Pool

AHEAD = 2
"""Tasks that are asked for, over those that are done at a time: nobody waits for the next, and few are lost."""
LOOK_S = 5.0
"""After so long the pool is asked again how many it does at a time."""
LOSSES = 3
"""A task that is lost more often is not asked for again: it may be what kills the workers."""

Task = TypeVar("Task")
Done = TypeVar("Done")


class Machines:
    """Whoever does tasks elsewhere; several threads may send it on errands at a time.

    Args:
        pool: where.
        tell: told of what was lost.
    """

    def __init__(self, pool: Pool, tell: Callable[[str], None] = lambda _: None) -> None:
        self.pool, self.tell = pool, tell
        self._lock = threading.Lock()
        self._pools = 0
        self._packed: tuple[object, tuple[Part, ...]] = None, ()

    def close(self) -> None:
        """Let go of the pool."""
        self.pool.close()

    def slots(self) -> int:
        """Return how many tasks are done at a time now; 1 where nobody knows."""
        try:
            return max(1, self.pool.slots())
        except Lost:
            return 1

    def results(self, errand: Errand[Task, Done], tasks: Sequence[Task]) -> Generator[tuple[Task, Done]]:
        """Yield each task as it comes in, once, with what came of it.

        Args:
            errand: whose they are; as it is now.
            tasks: to do, in this order or about.

        Raises:
            LapsbenchError: a task cannot be done, or is lost again and again, or the pool is gone for good.
        """
        left = dict(enumerate(tasks))
        asked = _Asked(
            self.pool, self._parts(errand), {each: pickled(task) for each, task in left.items()}, self._pools
        )
        losses: Counter[int] = Counter()
        failed: LapsbenchError | None = None
        try:
            while left and failed is None:
                for number, answer in asked.answers():
                    if isinstance(answer, Lost):
                        losses[number] += 1
                        if number in left and (losses[number] > LOSSES or answer.deadly):
                            failed = failed or self._too_often(errand.told(left[number]), answer)
                    elif isinstance(answer, LapsbenchError):
                        failed = failed or answer  # what came in with it is kept first
                    else:
                        yield left.pop(number), answer
                if asked.lost and failed is None:
                    self._mend(asked)
        finally:
            asked.stop()
        if failed is not None:
            raise failed

    def _parts(self, errand: Errand[Any, Any]) -> tuple[Part, ...]:
        """Pack an errand; the last one is held ready for more tasks of it."""
        last, parts = self._packed
        if last is not errand:
            parts = packed(errand)
            self._packed = errand, parts
        return parts

    def _too_often(self, name: str, lost: Lost) -> LapsbenchError:
        what = f"was lost again and again with the process that replayed it ({lost})"
        return LapsbenchError(what, where=f"--on {self.pool.place}: {name}", hint="more memory a process, or --limit N")

    def _mend(self, asked: _Asked) -> None:
        """Have the pool back after a loss; the first thread to hear of it does that for all."""
        with self._lock:
            if asked.pools == self._pools:
                self.tell(f"{self.pool.place}: cells under way were lost ({asked.lost}); asking for them again")
                try:
                    self._pools += self.pool.again()
                except LapsbenchError as error:
                    what = f"{error.what}, for {AGAIN_S:g} s now; with --out, finished cells are kept"
                    raise LapsbenchError(what, where=error.where, hint=f"{error.hint}, and the same command") from error
        asked.renew(self._pools)


class _Asked:
    """The tasks that a pool was asked for, and those it still will be.

    Attributes:
        lost: what was last, in words; "" for nothing.
        pools: how many there were before this one.
    """

    def __init__(self, pool: Pool, parts: tuple[Part, ...], tasks: Mapping[int, bytes], pools: int) -> None:
        self.pool, self.parts, self.pools = pool, parts, pools
        self.keys = tuple(part.key for part in parts)
        self.tasks, self.todo = tasks, deque(tasks)
        self.flying: dict[Future[Any], int] = {}
        self.lost = ""
        self._slots, self._looked = 0, -math.inf

    def answers(self) -> Iterator[tuple[int, Any]]:
        """Ask for more, wait for some, and yield what became of them; what was lost is to be asked for again."""
        self.lost = ""
        try:
            self._ask()
        except Lost as error:
            self.lost = str(error)
        done, _ = wait(self.flying, timeout=0 if self.lost else LOOK_S, return_when=FIRST_COMPLETED)
        for future in done:
            number = self.flying.pop(future)
            try:
                yield number, self.pool.result(future)
            except Lost as error:
                self.lost = str(error)
                self.todo.appendleft(number)
                yield number, error
            except (ImportError, AttributeError) as error:
                yield number, _stranger(self.pool.place, error)

    def renew(self, pools: int) -> None:
        """Ask again for what the last pool was asked for, if this is another."""
        if pools != self.pools:
            self.todo.extendleft(self.flying.values())
            self.flying.clear()
            self.pools = pools

    def stop(self) -> None:
        """Want no more of them."""
        for future in self.flying:
            future.cancel()

    def _ask(self) -> None:
        if time.monotonic() - self._looked > LOOK_S:
            self._slots, self._looked = self.pool.slots(), time.monotonic()
            if self._slots == 0:
                raise Lost("all workers")
        while self.todo and len(self.flying) < AHEAD * self._slots:
            sent = [self.pool.send(part) for part in self.parts]
            future = self.pool.submit(_run, worker.home(), self.keys, self.tasks[self.todo[0]], *sent)
            self.flying[future] = self.todo.popleft()


def _run(*given: Any) -> Any:
    from lapsbench.machines.worker import run  # noqa: PLC0415 - fails where there is none, and that is an answer

    return run(*given)


_run.__module__ = "__main__"  # then it travels as code: by name, a Dask worker that does not know it dies of it


def _stranger(place: str, error: Exception) -> LapsbenchError:
    """Say of a worker that cannot even be asked why."""
    what = f"a worker there has another lapsbench, or none ({error})"
    return LapsbenchError(what, where=f"--on {place}", hint=f"pip install lapsbench=={__version__} there")
