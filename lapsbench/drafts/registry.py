"""Find controllers of drafts by name or in a file, and set their parameters."""

from __future__ import annotations

import inspect
import pkgutil
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lapsbench import drafts
from lapsbench.core import Controller
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.policies.registry import in_file, number, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FLAG = "--drafts"
FIXED = "fixed"
"""No controller: as many in every step."""


def controller(
    *, source: str = "", knows: tuple[str, ...] = (), oracle: bool = False
) -> Callable[[Callable[..., float]], Controller]:
    """Make a function a controller: its name and summary come from the function, its parameters from the defaults.

    The arguments are those of `lapsbench.core.Controller`.
    """

    def wrap(choose: Callable[..., float]) -> Controller:
        return Controller(
            name=choose.__name__.replace("_", "-"),
            choose=choose,
            parameters=settings_of(choose, ("job", "step"), "step", "drafts"),
            source=source,
            summary=(inspect.getdoc(choose) or "").partition("\n")[0],
            knows=knows,
            oracle=oracle,
        )

    return wrap


@cache
def builtin() -> Mapping[str, Controller]:
    """Return the controllers of this package, oracles last."""
    found: list[Controller] = []
    for module in pkgutil.iter_modules(drafts.__path__):
        room = import_module(f"{drafts.__name__}.{module.name}")
        found += [c for c in vars(room).values() if isinstance(c, Controller) and c.choose.__module__ == room.__name__]
    return MappingProxyType({c.name: c for c in sorted(found, key=lambda c: (c.oracle, c.name))})


def find(spec: str) -> Controller:
    """Return the controller of `NAME[:key=value,...]` or `FILE.py:FUNCTION[:key=value,...]`.

    Raises:
        UsageError: no such controller or parameter.
        LapsbenchError: the file does not load.
    """
    found, settings = _locate(spec.strip())
    changed = dict(found.parameters)
    for setting in filter(None, settings.split(",")):
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or key not in changed:
            known = ", ".join(f"{k}={v:g}" for k, v in found.parameters.items()) or "none"
            what = f"{found.name} has no parameter {setting.strip()!r}"
            raise UsageError(what, where=FLAG, hint=f"one of: {known}")
        changed[key] = number(text, key, found.name, FLAG)
    return replace(found, parameters=MappingProxyType(changed))


def spec_of(found: Controller) -> str:
    """Return the name with the parameters that differ from their defaults, as `find` takes it."""
    defaults = settings_of(found.choose, ("job", "step"), "step", "drafts")
    changed = [f"{k}={v:.12g}" for k, v in found.parameters.items() if v != defaults[k]]
    name = f"{found.file}:{found.name.replace('-', '_')}" if found.file else found.name
    return f"{name}:{','.join(changed)}" if changed else name


def by_request(found: Controller) -> bool:
    """Say whether it is asked for every request on its own."""
    return "job" in inspect.signature(found.choose).parameters


def _locate(spec: str) -> tuple[Controller, str]:
    if ".py:" in spec:
        path, _, rest = spec.partition(".py:")
        function, _, settings = rest.partition(":")
        return _from_file(Path(path + ".py"), function.strip().replace("-", "_")), settings
    name, _, settings = spec.partition(":")
    name = name.strip().removesuffix("*").replace("_", "-")
    if name not in builtin():
        hint = f"one of: {', '.join([FIXED, *builtin()])}, or FILE.py:FUNCTION"
        raise UsageError(f"unknown controller {name!r}", where=FLAG, hint=hint)
    return builtin()[name], settings


def _from_file(path: Path, function: str) -> Controller:
    found = in_file(path, function, FLAG, Controller)
    if inspect.isfunction(found):
        found = controller(source=f"{path}:{function}")(found)
    if not isinstance(found, Controller):
        what = f"is a {type(found).__name__}, neither a function nor a Controller"
        raise LapsbenchError(what, where=f"{path}:{function}", hint="def mine(step): ...")
    return replace(found, file=str(path))
