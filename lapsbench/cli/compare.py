"""`lapsbench compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lapsbench.cli.console import check_target, progress_bar, remark, write_text
from lapsbench.errors import GateError, LapsbenchError

if TYPE_CHECKING:
    from lapsbench.versus import Versus

SKETCHED = "above five million requests quantiles come from sketches: each within 0.1 %"


def compare(
    before: Annotated[str, typer.Argument(metavar="RUN_A", help="The run to compare with.")],
    after: Annotated[str, typer.Argument(metavar="RUN_B", help="The run to judge.")],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(metavar='"[POLICY: ]METRIC > +5%"', help="Exit 3 if the whole interval is beyond; repeatable."),
    ] = None,
    markdown: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write Markdown; - for stdout instead of the table.")
    ] = None,
    allow_different_work: Annotated[
        bool, typer.Option("--allow-different-work", help="Compare runs of other requests or arrivals all the same.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Compare two runs request by request: better, same, worse or undecided.

    Exits 3 where a gate of --fail-if has failed; an undecided gate has not.
    """
    from lapsbench.metrics.gate import parse_gate
    from lapsbench.report.compare_text import versus_markdown
    from lapsbench.versus import compare_runs

    gates = [parse_gate(text) for text in fail_if or ()]
    check_target(markdown, "--markdown")
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("comparing", total=None)
        found = compare_runs(
            before, after, gates, allow_different_work=allow_different_work, progress=lambda: bar.advance(task)
        )
    remark([found.other_kind] if found.other_kind else [], quiet=quiet)
    remark([SKETCHED] if found.approximate else [], quiet=quiet)
    failed = write_text(versus_markdown(found), markdown, "--markdown") if markdown else None
    if markdown != "-":
        _print(found)
    _gate(found, failed)


def _print(found: Versus) -> None:
    from rich.console import Console

    from lapsbench.report.compare_text import render

    render(found, Console(highlight=False))


def _gate(found: Versus, failed: LapsbenchError | None) -> None:
    """End as the gates, or a file that could not be written, demand."""
    from lapsbench.report.compare_text import gates

    if broken := [words for outcome, words in gates(found.judged) if outcome == "failed"]:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise GateError(broken[0] + more, where="gate failed", hint="the table for what else changed")
    if failed:
        raise failed
