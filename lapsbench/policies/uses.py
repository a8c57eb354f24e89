"""What a rank function makes use of, read from its source: what need not be asked twice, or at all."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lapsbench.core import SYSTEM, Policy
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.core import Controller

FIXED_JOB = (
    "arrival_s",
    "predicted_tokens",
    "predicted_rounds",
    "predicted_class",
    "prefill_s",
    "prompt_tokens",
    "priority",
    "category",
    "own_tokens_per_round",
    "past_ratio",
)
"""Fields of `JOB` that are what they are at arrival."""
CHANGING_SYSTEM = ("now_s", "step", "waiting", "backlog_s", "draft_tokens")
FIXED_SYSTEM = tuple(name for name in SYSTEM.names or () if name not in CHANGING_SYSTEM)
"""Fields of `SYSTEM` that never change."""


REVIEWS = ("review_s", "review_step")
"""What a policy writes to be asked again."""


def is_fixed(policy: Policy) -> bool:
    """Say whether a job's rank never changes: all it reads is known at arrival, and it writes nothing."""
    return _is_fixed(policy.rank, policy.name)


@cache
def _is_fixed(rank: Callable[..., float], name: str) -> bool:
    allowed = {"job": FIXED_JOB, "system": FIXED_SYSTEM}
    tree = parse(Policy(name, rank, preemptive=True))
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in allowed]
    reads = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and isinstance(node.value, ast.Name)
        and node.attr in allowed.get(node.value.id, ())
    ]
    return len(uses) == len(reads)  # a noun handed whole to a helper is a use that is no such read


def may_ask_for_reviews(policy: Policy) -> bool:
    """Say whether the policy, or anything it calls, so much as names `job.review_s` or `job.review_step`."""
    return any(map(_names(policy.rank).__contains__, REVIEWS))


def reads(policy: Policy | Controller, field: str) -> bool:
    """Say whether the policy, or anything it calls, may read a field: it names it, or writes its name as text."""
    return field in _names(policy.rank)


def wants_today(policy: Policy) -> bool:
    """Say whether a policy needs to know today's fcfs p99: it reads it, and was not given a patience of its own."""
    return reads(policy, "fcfs_p99_s") and not policy.parameters.get("patience_s", 0.0) > 0


@cache
def _names(function: Callable[..., Any]) -> frozenset[str]:
    """Return all names and texts in a function and in the compiled helpers it calls."""
    code, around = function.__code__, function.__globals__
    names = code.co_names
    rooms = [around, *(vars(around[name]) for name in names if isinstance(around.get(name), ModuleType))]
    helpers = [getattr(room.get(name), "py_func", None) for room in rooms for name in names]
    own = frozenset(names) | {text for text in code.co_consts if isinstance(text, str)}
    return own.union(*(_names(helper) for helper in helpers if helper and helper is not function))


def parse(policy: Policy | Controller) -> ast.Module:
    """Return the rank function's syntax tree.

    Raises:
        LapsbenchError: its source cannot be read.
    """
    try:
        source = textwrap.dedent(inspect.getsource(policy.rank))
        return ast.parse(source)
    except (OSError, SyntaxError) as error:
        raise LapsbenchError(
            "its source cannot be read", where=where(policy), hint="defining it with def in a file"
        ) from error


def where(policy: Policy | Controller) -> str:
    """Say which policy, or controller, and in which file, for an error."""
    noun = "policy" if isinstance(policy, Policy) else "drafts"
    return f"{noun} {policy.name!r} ({policy.rank.__code__.co_filename})"
