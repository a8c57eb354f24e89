"""The engines that serve: what is called to serve a cell on each, and what is installed. Runs in a child."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from lapsbench.execution.installed import vllm_version

if TYPE_CHECKING:
    from lapsbench.core import Policy
    from lapsbench.execution.wanted import Serve, ServedBy


def version_of(engine: ServedBy) -> tuple[str, str]:
    """Return the version of an engine, and what it runs on."""
    import torch  # noqa: PLC0415 - takes seconds

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return (vllm_version() if engine == "vllm" else metadata.version("torch")), device


def serve(asked: Serve, policy: Policy) -> None:
    """Serve a cell on its engine."""
    by = {"vllm": _on_vllm, "torch": _on_torch}
    by[asked.wanted.engine](asked, policy)


def _on_vllm(asked: Serve, policy: Policy) -> None:
    from lapsbench.vllm.serve import Serving, serve  # noqa: PLC0415 - vLLM takes seconds to import

    wanted = asked.wanted
    serving = Serving(
        model=asked.prepared.model,
        engine=asked.engine,
        policy=policy,
        log=Path(asked.log),
        imposed=wanted.acceptance == "imposed",
        clock=wanted.clock,
        costs=asked.costs,
        texts=_texts(asked),
        draft=asked.prepared.draft,
        more={"dtype": wanted.dtype or "auto", "skip_tokenizer_init": True},
    )
    serve(asked.work, asked.setup, serving)


def _on_torch(asked: Serve, policy: Policy) -> None:
    from lapsbench.serving.prompts import drawn  # noqa: PLC0415 - the other engine needs none of it
    from lapsbench.serving.torch import TorchServing, serve  # noqa: PLC0415

    wanted, texts = asked.wanted, _texts(asked)
    serving = TorchServing(
        target=wanted.target,
        draft=wanted.draft,
        engine=asked.engine,
        policy=policy,
        costs=asked.costs,
        log=Path(asked.log),
        imposed=wanted.acceptance == "imposed",
        clock=wanted.clock,
        prompts=drawn(asked.work, 0, texts) if texts else None,
        device=asked.prepared.device,
        dtype=wanted.dtype,
    )
    serve(asked.work, asked.setup, serving)


def _texts(asked: Serve) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of the texts to send; none: made up."""
    if asked.wanted.prompts is None:
        return ()
    from lapsbench.execution.texts import tokens_of  # noqa: PLC0415 - transformers takes seconds

    return tokens_of(asked.wanted.prompts, asked.prepared.model)
