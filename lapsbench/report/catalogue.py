"""Print the schedulers: one line each, or one in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from lapsbench.core import Policy


def overview(policies: Sequence[Policy], console: Console) -> None:
    """Print a line per policy."""
    table = Table(box=None, pad_edge=False)
    for heading in ("policy", "preempts", "rule"):
        table.add_column(heading, no_wrap=heading != "rule")
    for policy in policies:
        table.add_row(policy.label, "yes" if policy.preemptive else "no", policy.summary)
    console.print(table)
    console.print("\n* knows the truth: a bound, not a scheduler. lapsbench policies NAME tells parameters and source.")


def describe(policy: Policy, console: Console) -> None:
    """Print everything about one policy."""
    console.print(f"{policy.label}: {policy.summary}")
    facts = {
        "source": policy.source,
        "knows": ", ".join(policy.knows),
        "preempts": "yes" if policy.preemptive else "no",
        "parameters": ", ".join(f"{key}={value:g}" for key, value in policy.parameters.items()) or "none",
    }
    for label, fact in facts.items():
        console.print(f"  {label:<11}{fact}")
    if policy.parameters:
        first = next(iter(policy.parameters))
        console.print(f"  {'example':<11}--policy {policy.name}:{first}={policy.parameters[first]:g}")
