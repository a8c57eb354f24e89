"""Turn a rank function into one signature: compiled for the kernel, plain for the twin.

The compiled form takes two records, `core.JOB` and `core.SYSTEM`, by reference. Parameters are read from
`system.params`, so a new value costs no new compilation: the rewrite below puts `eps = system.params[1]` in front of
the body and keeps file name and line numbers, which lets Numba cache the result beside the user's own file. (A wrapper
closing over the compiled function would be recompiled in every process: Numba keys closures by identity.)
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any

from numba import from_dtype, njit, types
from numba.core.errors import NumbaError

from lapsbench.core import JOB, SYSTEM, WRITABLE, Policy
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Callable

JOB_TYPE = from_dtype(JOB)
SYSTEM_TYPE = from_dtype(SYSTEM)
RANK_SIGNATURE = types.float64(JOB_TYPE, SYSTEM_TYPE)
RANK_TYPE = types.FunctionType(RANK_SIGNATURE)

FIXED_JOB = ("arrival_s", "predicted_tokens", "predicted_rounds", "predicted_class", "prefill_s", "prompt_tokens")
"""Fields of `JOB` that are what they are at arrival."""
FIXED_SYSTEM = tuple(name for name in SYSTEM.names or () if name not in ("now_s", "step"))
"""Fields of `SYSTEM` that never change."""


def compiled(policy: Policy) -> Any:
    """Compile the policy's rank function to `RANK_SIGNATURE`, or load it from Numba's cache.

    Raises:
        LapsbenchError: it reads a field no policy may see, writes one it may not write, or does not compile.
    """
    return _compiled(policy.rank, policy.name, tuple(policy.parameters))


@cache  # loading from disk takes 4 ms, twice as long as replaying 5,000 requests
def _compiled(rank: Callable[..., float], name: str, parameters: tuple[str, ...]) -> Any:
    policy = Policy(name, rank, preemptive=True, parameters=dict.fromkeys(parameters, 0.0))
    tree = _parse(policy)
    _check_boundary(policy, tree.body[0])
    function = _rewritten(policy, tree)
    try:
        return njit(RANK_SIGNATURE, cache=True, error_model="numpy", nogil=True)(function)
    except RuntimeError:  # Numba cannot cache it: no writable folder, or no file behind the function
        return _compile(policy, function, cache=False)
    except (NumbaError, KeyError) as error:
        raise _refused(policy, error) from error


def plain(policy: Policy) -> Callable[[Any, Any], float]:
    """Return the rank function as plain Python of (job, system), parameters bound."""
    rank, settings = _uncompiled(policy.rank), dict(policy.parameters)
    if "system" in inspect.signature(rank).parameters:
        return lambda job, system: float(rank(job, system=system, **settings))
    return lambda job, system: float(rank(job, **settings))  # noqa: ARG005 - one shape for both


def is_fixed(policy: Policy) -> bool:
    """Say whether a job's rank never changes: all it reads is known at arrival, and it writes nothing."""
    return _is_fixed(policy.rank, policy.name)


@cache
def _is_fixed(rank: Callable[..., float], name: str) -> bool:
    allowed = {"job": FIXED_JOB, "system": FIXED_SYSTEM}
    tree = _parse(Policy(name, rank, preemptive=True))
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


def _uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with every compiled helper it calls replaced by the Python it was compiled from."""
    room = dict(function.__globals__)
    for name in function.__code__.co_names:
        helper = getattr(room.get(name), "py_func", None)
        if helper is not None:
            room[name] = _uncompiled(helper)
    return FunctionType(function.__code__, room, function.__name__, function.__defaults__, function.__closure__)


def _compile(policy: Policy, function: Any, *, cache: bool) -> Any:
    try:
        return njit(RANK_SIGNATURE, cache=cache, error_model="numpy", nogil=True)(function)
    except (NumbaError, KeyError) as error:
        raise _refused(policy, error) from error


def _parse(policy: Policy) -> ast.Module:
    try:
        source = textwrap.dedent(inspect.getsource(policy.rank))
        return ast.parse(source)
    except (OSError, SyntaxError) as error:
        raise LapsbenchError(
            "its source cannot be read", where=_where(policy), hint="defining it with def in a file"
        ) from error


def _check_boundary(policy: Policy, function: ast.AST) -> None:
    """Name what a policy must not touch before Numba does: `job.output_tokens` has no field to read."""
    fields = {"job": JOB.names or (), "system": SYSTEM.names or ()}
    for node in ast.walk(function):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in fields):
            continue
        noun = node.value.id
        if node.attr not in fields[noun]:
            raise LapsbenchError(
                f"reads {noun}.{node.attr}, which no policy may see: true lengths and future acceptance are not there",
                where=f"{_where(policy)}, line {policy.rank.__code__.co_firstlineno + getattr(node, 'lineno', 1) - 1}",
                hint=f"one of: {', '.join(fields[noun])}",
            )
        if isinstance(node.ctx, ast.Store) and not (noun == "job" and node.attr in WRITABLE):
            raise LapsbenchError(
                f"writes {noun}.{node.attr}", where=_where(policy), hint=f"writing only job.{', job.'.join(WRITABLE)}"
            )


def _rewritten(policy: Policy, tree: ast.Module) -> Any:
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef):
        raise LapsbenchError("is not a plain function", where=_where(policy), hint="def my_policy(job): ...")
    function.decorator_list = []
    function.returns = None
    first = function.body[0]
    prologue = ast.parse("\n".join(f"{name} = system.params[{i}]" for i, name in enumerate(policy.parameters))).body
    for statement in prologue:
        for node in ast.walk(statement):
            ast.copy_location(node, first)
    function.args = ast.arguments(
        posonlyargs=[], args=[ast.arg("job"), ast.arg("system")], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    function.body = [*prologue, *function.body]
    code = policy.rank.__code__
    ast.increment_lineno(tree, code.co_firstlineno - 1)
    ast.fix_missing_locations(tree)
    room: dict[str, Any] = {}
    exec(compile(tree, code.co_filename, "exec"), policy.rank.__globals__, room)  # noqa: S102 - the user's own source
    made = room[function.name]
    made.__module__ = policy.rank.__module__
    made.__qualname__ = policy.rank.__qualname__
    return made


def _where(policy: Policy) -> str:
    return f"policy {policy.name!r} ({policy.rank.__code__.co_filename})"


def _refused(policy: Policy, error: Exception) -> LapsbenchError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line or "nknown" in line or "annot" in line]
    return LapsbenchError(
        f"does not compile: {(telling or lines or [type(error).__name__])[-1][:200]}",
        where=_where(policy),
        hint="plain arithmetic, math, and the fields of docs/write-a-policy.md",
    )
