"""Tell the schedulers as text: a line or two each, or one in full."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from lapsbench.report.screen import PIPE_WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.core import Policy

ORACLES = "* knows the truth: not a scheduler. `lapsbench policies NAME` tells parameters and source."


def overview(policies: Sequence[Policy]) -> str:
    """Return a table of all policies."""
    width = max(len(policy.label) for policy in policies)
    lines = [f"{'policy':<{width}}  preempts  rule"]
    for policy in policies:
        preempts = "yes" if policy.preemptive else "no"
        lines += _hanging(f"{policy.label:<{width}}  {preempts:<8}  ", policy.summary)
    return "\n".join([*lines, "", ORACLES, ""])


def describe(policy: Policy) -> str:
    """Return everything about one policy."""
    facts = {
        "source": policy.source,
        "knows": ", ".join(policy.knows) or "nothing but what it sees of the job",
        "preempts": "yes" if policy.preemptive else "no",
        "parameters": ", ".join(f"{key}={value:g}" for key, value in policy.parameters.items()) or "none",
    }
    if policy.bounds:
        facts["bounds"] = policy.bounds
    if policy.aliases:
        facts["or"] = ", ".join(f"{letter} for {key}" for letter, key in policy.aliases.items())
    if policy.parameters:
        first, value = next(iter(policy.parameters.items()))
        facts["example"] = f"--policy {policy.name}:{first}={value:g}"
    lines = _hanging(f"{policy.label}: ", policy.summary)
    for label, fact in facts.items():
        lines += _hanging(f"  {label:<12}", fact)
    return "\n".join([*lines, ""])


def _hanging(head: str, text: str) -> list[str]:
    """Wrap `text` beside `head`; a long head only indents by four."""
    indent = " " * (len(head) if len(head) <= 32 else 4)
    lines = textwrap.wrap(head + text, PIPE_WIDTH, subsequent_indent=indent, break_on_hyphens=False)
    return lines or [head.rstrip()]
