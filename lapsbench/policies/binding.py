"""Turn a rank function into one signature: compiled for the kernel, plain for the twin.

The compiled form ranks many jobs in one call, so that what a call costs, and what is the same for all of them, is paid
once a step (a round under srpt 13.7 ns before, 12.9 after). The rewrite below makes of

    def mine(job, system, eps=0.05): BODY

    def mine(job, system, eps): BODY
    def mine_many(jobs, ranks, count, system):
        eps = system.params[0]
        for each of the jobs: its rank = mine(job, system, eps)

and LLVM inlines the one in the other. Parameters are read from `system.params`, so a new value costs no new
compilation; file name and line numbers are kept, which lets Numba cache the result beside the user's own file. (A
wrapper closing over the compiled function would be recompiled in every process: Numba keys closures by identity.)
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from functools import cache
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any

from lapsbench.compiled.later import later
from lapsbench.compiled.native import Native, native, ours
from lapsbench.core import DRAFTED, JOB, SYSTEM, WRITABLE, Policy
from lapsbench.errors import LapsbenchError
from lapsbench.policies.pointers import floats, longs, shown_job_at, system_at
from lapsbench.policies.uses import may_ask_for_reviews, parse, where

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TRUTH = re.compile("output|accept|remaining|length|future|true|workload")
"""Fields by these names would tell how long a request will be, or what it will accept."""
PEEKING = "no policy may see: true lengths and future acceptance are not there"


def compiled(policy: Policy) -> Native:
    """Compile the policy's rank function, or load what is kept of it on disk.

    It takes the addresses of the jobs' addresses and of the ranks to write, how many they are, and the address of the
    system; it returns the highest rank, NaN if any is.

    Raises:
        LapsbenchError: it reads a field no policy may see, writes one it may not write, or does not compile.
    """
    return _compiled(policy.rank, policy.name, tuple(policy.parameters))


@cache  # loading from disk takes 4 ms, twice as long as replaying 5,000 requests
def _compiled(rank: Callable[..., float], name: str, parameters: tuple[str, ...]) -> Native:
    policy = Policy(name, rank, preemptive=True, parameters=dict.fromkeys(parameters, 0.0))
    tree = parse(policy)
    check_boundary(policy, tree.body[0], POLICY_MAY)
    return made_native(policy, lambda: _rewritten(policy, tree))


def made_native(policy: Any, make: Callable[[], Any]) -> Native:
    """Compile a plug-in's function, which `make` returns, or load what is kept of it on disk.

    Raises:
        LapsbenchError: it does not compile.
    """
    if ours(policy.rank):
        return native(f"{policy.rank.__module__}.{policy.rank.__name__}", make, "float64")
    from lapsbench.compiled.compiler import REFUSES, plugged  # noqa: PLC0415 - imports Numba

    try:
        return plugged(make())
    except REFUSES as error:
        raise _refused(policy, error) from error


def plain(policy: Policy) -> Callable[[Any, Any], float]:
    """Return the rank function as plain Python of (job, system), parameters bound."""
    rank, settings = uncompiled(policy.rank), dict(policy.parameters)
    if "system" in inspect.signature(rank).parameters:
        return lambda job, system: float(rank(job, system=system, **settings))
    return lambda job, system: float(rank(job, **settings))  # noqa: ARG005 - one shape for both


def uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with every compiled helper it calls replaced by the Python it was compiled from."""
    room = dict(function.__globals__)
    for name in function.__code__.co_names:
        helper = getattr(room.get(name), "py_func", None)
        if helper is not None:
            room[name] = uncompiled(helper)
    return FunctionType(function.__code__, room, function.__name__, function.__defaults__, function.__closure__)


_JOB = tuple(name for name in JOB.names or () if name not in DRAFTED)
POLICY_MAY = MappingProxyType({"job": (_JOB, WRITABLE), "system": (SYSTEM.names or (), ())})
"""By noun: the fields a policy may read, and of those the ones it may write."""


def check_boundary(policy: Any, function: ast.AST, may: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> None:
    """Name what a plug-in must not touch before Numba does: `job.output_tokens` has no field to read."""
    fields = {noun: readable for noun, (readable, _) in may.items()}
    for node in ast.walk(function):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in fields):
            continue
        noun = node.value.id
        if node.attr not in fields[noun]:
            raise LapsbenchError(
                f"reads {noun}.{node.attr}, which {PEEKING if TRUTH.search(node.attr) else 'is not there'}",
                where=f"{where(policy)}, line {policy.rank.__code__.co_firstlineno + getattr(node, 'lineno', 1) - 1}",
                hint=f"one of: {', '.join(fields[noun])}",
            )
        if isinstance(node.ctx, ast.Store) and node.attr not in may[noun][1]:
            writable = ", ".join(f"{each}.{name}" for each, (_, names) in may.items() for name in names)
            raise LapsbenchError(f"writes {noun}.{node.attr}", where=where(policy), hint=f"writing only {writable}")


TOOLS = MappingProxyType(
    {
        "_inf": math.inf,
        "_nan": math.nan,
        "_floats": floats,
        "_longs": longs,
        "_job_at": shown_job_at,
        "_system_at": system_at,
    }
)
"""What the function below is written with."""


def _rewritten(policy: Policy, tree: ast.Module) -> Any:
    """Return the function that ranks many jobs; it calls the policy's own, its parameters become arguments."""
    forget = "job.review_s = job.review_step = _inf" if may_ask_for_reviews(policy) else "pass"
    return around_own(policy, tree, ("job", "system"), _MANY, TOOLS, forget=forget)


def around_own(
    policy: Any, tree: ast.Module, nouns: tuple[str, ...], template: str, tools: Mapping[str, Any], **parts: str
) -> Any:
    """Return a function made of a template, around a plug-in's own, whose parameters are read from its last noun."""
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef):
        raise LapsbenchError("is not a plain function", where=where(policy), hint=f"def mine({nouns[0]}): ...")
    function.decorator_list, function.returns = [], None
    names = [*nouns, *policy.parameters]
    function.args = ast.arguments(
        posonlyargs=[], args=[ast.arg(name) for name in names], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    around = policy.rank.__globals__ | dict(tools)
    # beyond its scratch lie the simulator's own counts; the check costs nothing where the index is a constant
    as_here = later(error_model="numpy", nogil=True, boundscheck=True)
    one = as_here(_built(policy, tree, function.name, around))
    settings = "; ".join(f"{name} = {nouns[-1]}.params[{i}]" for i, name in enumerate(policy.parameters)) or "pass"
    many = template.format(name=function.name, settings=settings, arguments=", ".join(names), **parts)
    return _built(policy, ast.parse(many), f"{function.name}_many", around | {"_one": one})


_MANY = """
def {name}_many(_jobs, _ranks, _count, _system):
    system = _system_at(_system, 0)
    {settings}
    _worst, _right = -_inf, True
    for _i in range(_count):
        job = _job_at(_longs(_jobs)[_i], 0)
        {forget}
        _rank = _one({arguments})
        _floats(_ranks)[_i] = _rank
        if _rank > _worst:
            _worst = _rank
        _right &= _rank == _rank
    return _worst if _right else _nan
"""


def _built(policy: Any, tree: ast.Module, name: str, around: dict[str, Any]) -> Any:
    """Compile to bytecode as if it stood where the policy does: that is where Numba looks for changes."""
    code = policy.rank.__code__
    ast.increment_lineno(tree, code.co_firstlineno - 1)
    room: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(tree), code.co_filename, "exec"), around, room)  # noqa: S102 - the user's own
    made = room[name]
    made.__module__ = policy.rank.__module__
    made.__qualname__ = policy.rank.__qualname__.replace(policy.rank.__name__, name)
    return made


def _refused(policy: Any, error: Exception) -> LapsbenchError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line or "nknown" in line or "annot" in line]
    return LapsbenchError(
        f"does not compile: {(telling or lines or [type(error).__name__])[-1][:200]}",
        where=where(policy),
        hint="plain arithmetic, math, and the fields of docs/write-a-policy.md",
    )
