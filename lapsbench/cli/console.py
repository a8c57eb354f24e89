"""What the verbs share at a terminal: a progress bar, JSON, names to complete."""

from __future__ import annotations

import contextlib
import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.progress import Progress

WIDTH = 100
"""Columns of a terminal that everything fits into."""


def complete_policy(incomplete: str) -> list[str]:
    """Names of policies that begin so."""
    from lapsbench.policies.registry import names

    return [name for name in names() if name.startswith(incomplete)]


def check_target(target: str | None, flag: str = "--json") -> None:
    """Try a file to write before the work, so that a bad path fails early; what it holds stays until there is more."""
    if target is None or target == "-":
        return
    if not target.strip():
        raise UsageError("is empty", where=flag, hint="a file, or - for stdout")
    path = Path(target)
    try:
        if path.is_fifo() or path.is_char_device():
            return  # opening it twice would tell the reader that this was all
        there = path.exists()
        path.open("a").close()
        if not there:
            path.unlink()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        what = f"cannot write: {reason}"
        raise LapsbenchError(what, where=f"{flag} {target}", hint="a file in a folder that exists") from error


def progress_bar(*, quiet: bool) -> Progress:
    """Return a progress bar on stderr, hidden where stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)


@contextlib.contextmanager
def plain_bar(*, quiet: bool) -> Iterator[Callable[[float, float, str], None]]:
    """Give `show(done, total, text)`: a bar on stderr that takes no rich, and none where stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    steps = 1000
    with typer.progressbar(length=steps, file=sys.stderr, label="starting") as bar:

        def show(done: float, total: float, text: str) -> None:
            bar.label = text.ljust(24)
            bar.update(round(steps * done / total) - bar.pos if total else 0)
            bar.render_progress()

        yield show


def write_json(content: dict[str, Any], target: str) -> LapsbenchError | None:
    """Write what `--json` asks for; return what went wrong with a file."""
    return write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", target, "--json")


def write_text(text: str, target: str, flag: str) -> LapsbenchError | None:
    """Write what a flag asks for to a file, or - for stdout; return what went wrong with a file."""
    if target == "-":
        sys.stdout.write(text)
        return None
    from lapsbench import files

    try:
        with files.whole(Path(target), f"{flag} {target}") as part:
            part.write_text(text, encoding="utf-8")
    except LapsbenchError as error:
        return error
    return None


def show(content: dict[str, Any], json_to: str | None, text: str) -> None:
    """Print a result, and write it as JSON where that is asked for."""
    failed = write_json(content, json_to) if json_to else None
    if json_to != "-":
        sys.stdout.write(text)
    if failed:
        raise failed


def laid_out(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return records as lines of aligned columns, numbers to the right; "-" is what is not known.

    Text in the last column is broken into lines where the whole would be wider than `WIDTH`.
    """
    if not rows:
        return ""
    names = list(rows[0])
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    numeric = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]
    widths = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    lines = []
    for line in [names, *cells]:
        first, *more = (not numeric[-1] and textwrap.wrap(line[-1], max(WIDTH - before, 30))) or [line[-1]]
        parts = zip([*line[:-1], first], widths, numeric, strict=True)
        lines.append("  ".join(text.rjust(width) if right else text.ljust(width) for text, width, right in parts))
        lines += [" " * before + text for text in more]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def remark(lines: Iterable[str], *, quiet: bool) -> None:
    """Say something beside the result, on stderr."""
    for line in () if quiet else lines:
        print(line, file=sys.stderr)  # noqa: T201 - the command line prints


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
