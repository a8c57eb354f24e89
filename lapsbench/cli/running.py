"""What `replay` and `execute` do alike: run under a progress bar, print the result and what is to say beside it."""

from __future__ import annotations

import sys
import warnings
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from lapsbench.cli.console import progress_bar, remark, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lapsbench.machines.machines import Machines
    from lapsbench.metrics.result import ReplayResult
    from lapsbench.replay import Replayer

COMPILING = "compiling the simulator, once: about half a minute"


def run(
    make: Callable[[Callable[[str], None]], Replayer],
    doing: str,
    jobs: int = 1,
    *,
    quiet: bool,
    patience: bool = False,
    on: str | None = None,
) -> tuple[ReplayResult, Replayer]:
    """Run under a progress bar on stderr; where that is not a terminal, say no more than what takes long.

    Args:
        make: makes what runs; it is told whom to tell what is being waited for.
        doing: what is done with the cells.
        jobs: of them at a time.
        quiet: no progress.
        patience: keep the line over patience of `work-patient`.
        on: replay them there, in place of this process.
    """
    with progress_bar(quiet=quiet) as bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="joblib")  # after Ctrl-C, of cells that were under way
        task = bar.add_task("reading", total=None)

        def say(text: str) -> None:
            bar.update(task, description=text)

        def tell() -> None:
            say(COMPILING)
            remark([COMPILING], quiet=quiet or bar.console.is_terminal)

        from lapsbench.sim.compiling import told_of_compiling

        with told_of_compiling(tell), elsewhere(on, say, quiet=quiet) as machines, closing(make(say)) as replayer:
            bar.update(task, description=f"{doing} {len(replayer.plan.cells)} cells", total=replayer.requests)
            done = replayer.run(jobs, lambda left: bar.advance(task, left), patience=patience, machines=machines)
            return done, replayer


@contextmanager
def elsewhere(on: str | None, say: Callable[[str], None], *, quiet: bool) -> Iterator[Machines | None]:
    """Give who replays cells in place of this process, if anybody."""
    if on is None:
        yield None
        return
    from lapsbench.machines import opened

    say(f"reaching {on}")
    with opened(on, lambda text: remark([text], quiet=quiet)) as machines:
        yield machines


def show(result: ReplayResult, replayer: Replayer, json_to: str | None, *, quiet: bool) -> None:
    """Print the table, or JSON, and on stderr what was remarked."""
    from rich.console import Console

    from lapsbench.metrics.result import to_json
    from lapsbench.report.table import render

    stderr = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    failed = write_json(to_json(result), json_to) if json_to else None
    if json_to != "-":
        render(result, Console(highlight=False), advice=stderr)
    if not sys.stdout.isatty():  # at a terminal they stand under the table
        for line in result.notes:
            stderr.print(f"note: {line}")
    for line in replayer.remarks:
        stderr.print(line)
    if failed:  # only now: the table is worth having all the same
        raise failed
