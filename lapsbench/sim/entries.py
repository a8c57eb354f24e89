"""The simulator's functions that Python calls: machine code, kept on disk; compiled where it is not there yet."""

from __future__ import annotations

from functools import cache, partial
from importlib import import_module
from typing import Any

from lapsbench.compiled.native import Native, native


@cache
def entry(name: str) -> Native:
    """Return a function of `module.function` below this package: it takes and returns whole numbers alone."""
    return native(f"lapsbench.sim.{name}", partial(_found, name))


def _found(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(import_module(f"lapsbench.sim.{module}"), function).py_func
