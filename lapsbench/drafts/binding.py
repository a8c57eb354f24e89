"""Turn a controller's function into one signature: compiled for the kernel, plain for the twin."""

from __future__ import annotations

import inspect
import math
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lapsbench.core import DRAFTING, JOB, Controller
from lapsbench.drafts.registry import by_request
from lapsbench.errors import LapsbenchError
from lapsbench.policies.binding import around_own, check_boundary, made_native, uncompiled
from lapsbench.policies.pointers import drafted_job_at, ints, longs, shown_step_at
from lapsbench.policies.uses import parse, reads, where

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.compiled.native import Native

ORACLES_OWN = "would_accept"
_TOOLS = MappingProxyType(
    {"_nan": math.nan, "_longs": longs, "_ints": ints, "_job_at": drafted_job_at, "_step_at": shown_step_at}
)
_FOR_ALL = """
def {name}_many(_jobs, _drafts, _count, _step):
    step = _step_at(_step, 0)
    {settings}
    _k = 1.0 * _one({arguments})
    if _k != _k:
        return _nan
    return 1.0 * int(min(max(_k, 0.0), 1.0 * step.most_drafts))
"""
_FOR_EACH = """
def {name}_many(_jobs, _drafts, _count, _step):
    step = _step_at(_step, 0)
    {settings}
    _most = 0.0
    for _i in range(_count):
        job = _job_at(_longs(_jobs)[_i], 0)
        _k = 1.0 * _one({arguments})
        if _k != _k:
            return _nan
        _ints(_drafts)[_i] = int(min(max(_k, 0.0), 1.0 * step.most_drafts))
        _most = max(_most, 1.0 * _ints(_drafts)[_i])
    return _most
"""


def compiled(controller: Controller) -> Native:
    """Compile the controller's function, or load what is kept of it on disk.

    It takes the addresses of the jobs' addresses and of the drafts to write, how many they are, and the address of the
    step; it returns the most drafts of any, NaN where the controller does.

    Raises:
        LapsbenchError: it reads a field it may not see, writes one it may not write, or does not compile.
    """
    return _compiled(controller.choose, controller.name, tuple(controller.parameters), controller.oracle)


@cache
def _compiled(choose: Callable[..., float], name: str, parameters: tuple[str, ...], oracle: bool) -> Native:  # noqa: FBT001
    found = Controller(name, choose, dict.fromkeys(parameters, 0.0), oracle=oracle)
    tree = parse(found)
    check_boundary(found, tree.body[0], {"job": (JOB.names or (), ()), "step": (_fields(found), ("scratch",))})
    if reads(found, ORACLES_OWN) and not oracle:  # by some detour
        raise LapsbenchError(f"reads {ORACLES_OWN}, which only oracles may", where=where(found), hint="oracle=True")
    nouns, template = (("job", "step"), _FOR_EACH) if by_request(found) else (("step",), _FOR_ALL)
    return made_native(found, lambda: around_own(found, tree, nouns, template, _TOOLS))


def plain(controller: Controller) -> Callable[[Any, Any], float]:
    """Return the function as plain Python of (job, step), parameters bound, cut to the drafts there may be."""
    choose, settings = uncompiled(controller.choose), dict(controller.parameters)
    nouns = [name for name in ("job", "step") if name in inspect.signature(choose).parameters]

    def ask(job: Any, step: Any) -> float:
        given = {"job": job, "step": step}
        drafts = float(choose(**{noun: given[noun] for noun in nouns}, **settings))
        return drafts if math.isnan(drafts) else int(min(max(drafts, 0.0), step.most_drafts))

    return ask


def _fields(controller: Controller) -> tuple[str, ...]:
    """Return what it may read of the step; between requests, whose order means nothing, nothing is kept."""
    hidden = ([] if controller.oracle else [ORACLES_OWN]) + (["scratch"] if by_request(controller) else [])
    return tuple(name for name in DRAFTING.names or () if name not in hidden)
