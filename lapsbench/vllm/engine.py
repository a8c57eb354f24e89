"""Makes vLLM's engine in this process, with one thread and our scheduler."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ALONE = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process, where its clock can be read
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",  # else one thread's CPU time would not be all of it
    "VLLM_CPU_KVCACHE_SPACE": "4",  # GiB; else nearly all of the memory, or none of it where others use some
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


def made(
    settings: Mapping[str, Any], options: Mapping[str, Any], within: AbstractContextManager[Any] | None = None
) -> Any:
    """Make an engine of these arguments of vLLM's `EngineArgs`, and of these options of our scheduler.

    Args:
        settings: beside them, it runs eagerly, and draws with seed 0.
        options: `additional_config["lapsbench"]`.
        within: in which context it is made.
    """
    os.environ.update({name: value for name, value in ALONE.items() if name not in os.environ})
    from vllm import EngineArgs  # noqa: PLC0415 - reads the environment
    from vllm.v1.engine.llm_engine import LLMEngine  # noqa: PLC0415
    from vllm.v1.executor import Executor  # noqa: PLC0415

    asynchronous = bool(settings.get("async_scheduling", False))
    scheduler = f"lapsbench.vllm.scheduler.{'Async' * asynchronous}Scheduler"
    common = {"enforce_eager": True, "async_scheduling": False, "scheduler_cls": scheduler, "seed": 0}
    config = EngineArgs(**{**common, **settings}).create_engine_config()
    config.additional_config = {"lapsbench": dict(options)}
    with _unseen("llvmlite.binding.ffi"), within or nullcontext():
        return LLMEngine(config, executor_class=Executor.get_class(config), log_stats=False)


@contextmanager
def _unseen(name: str) -> Iterator[None]:
    """Hide a module: vLLM looks at what every module holds, and llvmlite's library has whatever it is asked for."""
    hidden = sys.modules.pop(name, None)
    try:
        yield
    finally:
        if hidden is not None:
            sys.modules[name] = hidden
