"""What policies of one comparison are called: their own name, after their file where only that tells them apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lapsbench.policies.registry import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lapsbench.core import Policy


def told_apart(policies: Sequence[Policy]) -> list[Policy]:
    """Put the file before the name of every policy from a file whose name is also another's, or one that is built in.

    Two parameter settings of one function keep its name: they are told apart by what was set.
    """
    taken = set(names())
    homes: dict[str, set[Path]] = {}
    for policy in policies:
        homes.setdefault(policy.name, set()).add(_home(policy))

    def named(policy: Policy) -> Policy:
        others = homes[policy.name] - {_home(policy)}
        if not policy.file or not (others or policy.name in taken):
            return policy
        return replace(policy, name=f"{_shortest(_home(policy), others)}:{policy.name}")

    return [named(policy) for policy in policies]


def _home(policy: Policy) -> Path:
    return Path(policy.file).resolve() if policy.file else Path()


def _shortest(path: Path, others: Iterable[Path]) -> str:
    """Return as many of the last parts of a path as no other path ends with."""
    parts = path.parts
    sizes = (size for size in range(1, len(parts)) if all(each.parts[-size:] != parts[-size:] for each in others))
    return "/".join(parts[-next(sizes, len(parts)) :])
