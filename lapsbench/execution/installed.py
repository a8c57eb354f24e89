"""Whether an engine is installed, and what to install if not: asked before anything else, without importing it."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from lapsbench.engines import rules_version
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from lapsbench.execution.wanted import ServedBy


def vllm_version() -> str:
    """Return the version of the installed vLLM.

    Raises:
        LapsbenchError: there is none.
    """
    try:
        return rules_version("vllm-native")
    except LapsbenchError as error:
        what = "serves on vLLM, which is not installed here"
        hint = "pip install lapsbench in an environment with vLLM 0.32 (docs/vllm.md), or --engine torch"
        raise LapsbenchError(what, where="--engine vllm", hint=hint) from error


def check_installed(engine: ServedBy) -> None:
    """Refuse an engine that is not there.

    Raises:
        LapsbenchError: with what to install.
    """
    if engine == "vllm":
        vllm_version()
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            what = f"serves with {package}, which is not installed here"
            raise LapsbenchError(what, where=f"--engine {engine}", hint="pip install 'lapsbench[profile]'")
