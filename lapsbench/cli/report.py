"""`lapsbench report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapsbench.cli.console import check_target, progress_bar, write_text
from lapsbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lapsbench.reading import Run
    from lapsbench.report.plots import Subject


def report(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Folders that `replay` or `validate` kept, or step logs.")
    ],
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write one page that opens offline.")] = None,
    markdown: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write Markdown, plots beside it; - for stdout, no plots.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no advice.")] = False,
) -> None:
    """Show finished runs: the table again, a page, or Markdown.

    Without an option, the table as replay printed it, or the tables of a validation. Of step logs of a served engine,
    one table of what was served.
    """
    check_target(html, "--html")
    check_target(markdown, "--markdown")
    if html == "-":
        raise UsageError("a page is for a file", where="--html", hint="--html report.html")
    if twice := sorted({run for run in runs if runs.count(run) > 1}):
        raise UsageError("is given twice", where=twice[0], hint="each run once")
    if logs := [run for run in runs if Path(run).is_file()]:
        _refuse_with_logs(runs, logs, html, markdown)
        _print_logs(runs, quiet=quiet)
        return
    from lapsbench.store.validated import RESULT

    if validated := [run for run in runs if (Path(run) / RESULT).exists()]:
        _print_validation(runs, validated[0], html, markdown)
        return
    plots = html is not None or markdown not in (None, "-")
    opened, subjects = _open(runs, plots=plots, quiet=quiet)
    if html is not None:
        from lapsbench.report.page import page

        _write(page(subjects), html, "--html")
    if markdown is not None:
        _markdown(opened, subjects, markdown)
    if html is None and markdown is None:
        _print(opened, quiet=quiet)


def _refuse_with_logs(runs: Sequence[str], logs: Sequence[str], html: str | None, markdown: str | None) -> None:
    if html is not None or markdown is not None:
        flag = "--html" if html is not None else "--markdown"
        raise UsageError("is for run folders; a step log has its table alone", where=flag, hint="leaving it out")
    if others := [run for run in runs if run not in logs]:
        what = f"is no file, and {logs[0]} is one"
        raise UsageError(what, where=others[0], hint="step logs alone, or run folders alone")


def _print_logs(paths: Sequence[str], *, quiet: bool) -> None:
    from lapsbench import files
    from lapsbench.cli.console import laid_out, remark
    from lapsbench.metrics.steps import summarize
    from lapsbench.report.steps import heading, row
    from lapsbench.store.steps import parse

    logs = [(path, parse(files.text(Path(path)), path)) for path in paths]
    remark([f"{path}: {note}" for path, log in logs for note in log.notes], quiet=quiet)
    typer.echo("".join(f"{path}: {heading(log)}\n" for path, log in logs))
    typer.echo(laid_out([row(Path(path).name, summarize(log)) for path, log in logs]), nl=False)


def _print_validation(runs: Sequence[str], folder: str, html: str | None, target: str | None) -> None:
    from lapsbench.report.validation import markdown, text
    from lapsbench.store.validated import read_result

    if len(runs) > 1:
        raise UsageError("is a validation, which is reported alone", where=folder, hint="one folder at a time")
    if html is not None:
        raise UsageError("is for runs; a validation has none", where="--html", hint="--markdown FILE")
    result = read_result(Path(folder))
    if target is None:
        typer.echo(text(result), nl=False)
    else:
        _write(markdown(result), target, "--markdown")


def _open(folders: Sequence[str], *, plots: bool, quiet: bool) -> tuple[list[Run], list[Subject]]:
    """Read the runs, and what their plots are drawn from where plots are wanted."""
    from lapsbench.reading import open_run

    opened: list[Run] = []
    subjects: list[Subject] = []
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("reading", total=None)
        tick: Callable[[], None] = lambda: bar.advance(task)  # noqa: E731 - one word for a callback
        opened = [open_run(folder, tick) for folder in folders]
        if plots:
            from lapsbench.report.plots import Subject
            from lapsbench.report.plots.curves import curves

            bar.update(task, description="drawing", completed=0, total=sum(len(run.saved.cells) for run in opened))
            alone = len(opened) == 1
            subjects = [Subject(run, curves(run, len(opened), tick), "" if alone else run.name) for run in opened]
    return opened, subjects


def _markdown(runs: Sequence[Run], subjects: Sequence[Subject], target: str) -> None:
    from lapsbench.report.markdown import markdown, pictures

    if target == "-":
        _write(markdown(runs), target, "--markdown")
        return
    path = Path(target)
    shown = pictures(subjects, path.stem)
    for name, (_, svg) in shown.items():
        _write(svg, str(path.with_name(name)), "--markdown")
    _write(markdown(runs, shown), target, "--markdown")


def _write(text: str, target: str, flag: str) -> None:
    if failed := write_text(text, target, flag):
        raise failed


def _print(runs: Sequence[Run], *, quiet: bool) -> None:
    from rich.console import Console

    from lapsbench.report.table import render

    stdout, stderr = Console(highlight=False), Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    for place, run in enumerate(runs):
        if len(runs) > 1:
            stdout.print(f"{'' if place == 0 else chr(10)}{run.name}", markup=False, soft_wrap=True, style="bold")
        render(run.result, stdout, advice=stderr)
