"""Find policies by name, by entry point, or in a file, and set their parameters.

Built-in policies are the `Policy` objects of the modules beside this one: writing the file registers it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import math
import pkgutil
import sys
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from lapsbench import policies
from lapsbench.core import PARAMETERS, Policy
from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from lapsbench.core import Calibration, Floats, Oracle

ENTRY_POINTS = "lapsbench.policies"
NOUNS = ("job", "system")
LIMIT = "preempt"
"""Every preemptive policy takes it: how often it may preempt a request."""


def policy(
    *,
    preemptive: bool,
    source: str = "",
    knows: tuple[str, ...] = (),
    oracle: Oracle | bool = "none",
    bounds: str = "",
    rerank: Literal["run", "step"] = "run",
    calibrate: Callable[[Calibration, Mapping[str, float]], Floats] | None = None,
    client_weights: tuple[str, str] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., float]], Policy]:
    """Make a rank function a policy: its name and summary come from the function, its parameters from the defaults.

    The arguments are those of `lapsbench.core.Policy`; `oracle=True` is "all".
    """
    told: Oracle = ("all" if oracle else "none") if isinstance(oracle, bool) else oracle

    def wrap(rank: Callable[..., float]) -> Policy:
        return Policy(
            name=rank.__name__.replace("_", "-"),
            rank=rank,
            preemptive=preemptive,
            parameters=parameters_of(rank),
            source=source,
            summary=(inspect.getdoc(rank) or "").partition("\n")[0],
            knows=knows,
            oracle=told,
            bounds=bounds,
            rerank=rerank,
            calibrate=calibrate,
            client_weights=client_weights,
            aliases=MappingProxyType(dict(aliases or {})),
        )

    return wrap


def parameters_of(rank: Callable[..., float]) -> Mapping[str, float]:
    """Return the parameters of a rank function: every argument but `job` and `system`, with its default.

    Raises:
        LapsbenchError: no `job` argument, an argument without a numeric default, or too many.
    """
    return settings_of(rank, NOUNS, "job", "policy")


def settings_of(function: Callable[..., float], nouns: tuple[str, ...], needed: str, what: str) -> Mapping[str, float]:
    """Return the parameters of a plug-in's function: every argument that is no noun, with its default.

    Raises:
        LapsbenchError: the needed noun is missing, an argument has no numeric default, or there are too many.
    """
    arguments = inspect.signature(function).parameters
    where = f"{what} {function.__name__!r}"
    if needed not in arguments:
        raise LapsbenchError(
            f"its function has no argument named {needed}",
            where=where,
            hint=f"def {function.__name__}({needed}): ...",
        )
    found: dict[str, float] = {}
    for name, argument in arguments.items():
        if name in nouns:
            continue
        if isinstance(argument.default, bool) or not isinstance(argument.default, int | float):
            raise LapsbenchError(
                f"argument {name!r} has no numeric default", where=where, hint=f"{name}=1.0 in its definition"
            )
        found[name] = float(argument.default)
    if len(found) > PARAMETERS:
        raise LapsbenchError(f"has {len(found)} parameters", where=where, hint=f"at most {PARAMETERS}")
    return MappingProxyType(found)


@cache
def builtin() -> Mapping[str, Policy]:
    """Return the policies of this package, oracles last."""
    found: list[Policy] = []
    for module in pkgutil.iter_modules(policies.__path__):
        room = import_module(f"{policies.__name__}.{module.name}")
        found += [p for p in vars(room).values() if isinstance(p, Policy) and p.rank.__module__ == room.__name__]
    return MappingProxyType({p.name: p for p in sorted(found, key=lambda p: (p.is_oracle, p.name))})


def vllms_own(found: Policy) -> str:
    """Return the name where vLLM itself has this policy, else ""."""
    own = [name for name in ("fcfs", "priority") if builtin()[name].rank is found.rank]
    return own[0] if own else ""


def names() -> list[str]:
    """Return every name `find` knows: built in, then third-party entry points."""
    return [*builtin(), *sorted(point.name for point in entry_points(group=ENTRY_POINTS))]


def find(spec: str) -> Policy:
    """Return the policy of `NAME[:key=value,...]` or `FILE.py:FUNCTION[:key=value,...]`.

    Raises:
        UsageError: no such policy or parameter.
        LapsbenchError: the file or entry point does not load.
    """
    found, settings = _locate(spec.strip())
    changed = dict(found.parameters)
    for setting in filter(None, settings.split(",")):
        key, equals, text = setting.partition("=")
        if equals and key.strip() == LIMIT and LIMIT not in changed:
            found = _limited(found, text)
            continue
        key = key.strip() if key.strip() in changed else found.aliases.get(key.strip(), key.strip())
        if not equals or key not in changed:
            known = ", ".join(f"{k}={v:g}" for k, v in found.parameters.items()) or "none"
            raise UsageError(
                f"{found.name} has no parameter {setting.strip()!r}", where="--policy", hint=f"one of: {known}"
            )
        changed[key] = number(text, key, found.name)
    return replace(found, parameters=MappingProxyType(changed))


def spec_of(found: Policy) -> str:
    """Return the name with the parameters that differ from their defaults, as `find` takes it."""
    defaults = parameters_of(found.rank)
    changed = [f"{k}={v:.12g}" for k, v in found.parameters.items() if v != defaults[k]]
    changed += [f"{LIMIT}={found.preempt:.12g}"] if math.isfinite(found.preempt) else []
    return f"{found.name}:{','.join(changed)}" if changed else found.name


def _limited(found: Policy, text: str) -> Policy:
    """Return the policy with a limit on how often it may preempt a request."""
    if not found.preemptive:
        what = f"{found.name} preempts nobody, so {LIMIT}= has nothing to limit"
        raise UsageError(what, where="--policy", hint=f"{found.name} as it is")
    most = number(text, LIMIT, found.name)
    if most < 0 or (math.isfinite(most) and most != int(most)):
        what = f"{found.name}: {LIMIT}={text!r} is not a number of preemptions"
        raise UsageError(what, where="--policy", hint=f"{LIMIT}=1")
    return replace(found, preempt=most)


def number(text: str, key: str, name: str, flag: str = "--policy") -> float:
    """Return a parameter's value.

    Raises:
        UsageError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise UsageError(f"{name}: {key}={text!r} is not a number", where=flag, hint=f"{key}=1.0")
    return value


def _locate(spec: str) -> tuple[Policy, str]:
    if ".py:" in spec:
        path, _, rest = spec.partition(".py:")
        function, _, settings = rest.partition(":")
        return _from_file(Path(path + ".py"), function.strip().replace("-", "_")), settings
    if spec.endswith(".py"):
        raise UsageError("names a file, but no function in it", where=f"--policy {spec}", hint=f"{spec}:FUNCTION")
    name, _, settings = spec.partition(":")
    name = name.strip().removesuffix("*").replace("_", "-")
    if name in builtin():
        return builtin()[name], settings
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return _from_entry_point(point), settings
    raise UsageError(
        f"unknown policy {name!r}", where="--policy", hint=f"one of: {', '.join(names())}, or FILE.py:FUNCTION"
    )


def _from_entry_point(point: Any) -> Policy:
    try:
        loaded = point.load()
    except Exception as error:  # third-party code may raise anything
        raise LapsbenchError(
            f"does not import: {type(error).__name__}: {error}", where=f"policy {point.name!r}", hint="reinstalling it"
        ) from error
    return replace(_as_policy(loaded, point.name), name=point.name)


def _from_file(path: Path, function: str) -> Policy:
    found = _as_policy(in_file(path, function, "--policy", Policy), f"{path}:{function}")
    return replace(found, file=str(path), function=function)


def in_file(path: Path, function: str, flag: str, kind: type[Any]) -> Any:
    """Return what a user's file calls so; `kind`: what may stand there beside plain functions.

    Raises:
        UsageError: no such file, or no such name in it.
        LapsbenchError: the file does not import.
    """
    if not path.is_file():
        raise UsageError(f"no such file {str(path)!r}", where=flag, hint="the path of a Python file")
    try:
        module = _module(path, path.resolve(), path.read_bytes())
    except (Exception, SystemExit) as error:  # a user's file may raise anything
        raise LapsbenchError(
            f"does not import: {type(error).__name__}: {error}", where=str(path), hint=f"python {path}"
        ) from error
    found = vars(module).get(function)
    if found is None:
        known = ", ".join(k for k, v in vars(module).items() if inspect.isfunction(v) or isinstance(v, kind))
        raise UsageError(f"{path} has no {function!r}", where=flag, hint=f"one of: {known or 'none defined'}")
    return found


@cache  # as long as it stays as it is, what was compiled of it is of use
def _module(path: Path, place: Path, _text: bytes) -> ModuleType:
    """Run a user's file."""
    where = hashlib.sha256(str(place).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"lapsbench_policy_{path.stem}_{where}", path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where Numba looks for it when it loads what an earlier process compiled
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _as_policy(found: object, where: str) -> Policy:
    if isinstance(found, Policy):
        return found
    if inspect.isfunction(found):
        return policy(preemptive=True, source=where)(found)
    raise LapsbenchError(
        f"is a {type(found).__name__}, not a rank function or a Policy", where=where, hint="def my_policy(job): ..."
    )
