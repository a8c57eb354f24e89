"""lapsbench inside vLLM: the plug-in schedulers, and the referee. The only package that imports vllm.

`--scheduler-cls lapsbench.vllm.Scheduler`, or `lapsbench.vllm.AsyncScheduler`: they are loaded when they are asked for,
so that reading the version below takes no vLLM.
"""

from __future__ import annotations

from typing import Any

VERSION = "0.32"
"""The minor version of vLLM whose scheduler `--engine vllm` is; `make vllm` proves it."""


def __getattr__(name: str) -> Any:
    """Load a scheduler."""
    if name in ("Scheduler", "AsyncScheduler"):
        from lapsbench.vllm import scheduler  # noqa: PLC0415 - takes vLLM

        return getattr(scheduler, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
