"""`lapsbench policies`."""

from __future__ import annotations

from typing import Annotated

import typer

from lapsbench.cli.console import complete_policy
from lapsbench.errors import UsageError


def policies(
    name: Annotated[str | None, typer.Argument(help="One policy, in full.", autocompletion=complete_policy)] = None,
) -> None:
    """List the schedulers, their parameters and sources."""
    from lapsbench.policies.registry import find, names
    from lapsbench.report.policies_text import describe, overview

    if not name:
        typer.echo(overview([find(each) for each in names()]), nl=False)
        return
    try:
        found = find(name)
    except UsageError as error:
        raise UsageError(error.what, where="policies", hint=error.hint) from error
    typer.echo(describe(found), nl=False)
