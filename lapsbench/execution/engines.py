"""The engines that serve: what is called to serve a cell on each, and what is installed. Runs in a child."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from lapsbench.execution.installed import vllm_version

if TYPE_CHECKING:
    from lapsbench.core import Policy
    from lapsbench.execution.wanted import Device, Serve, ServedBy
    from lapsbench.serving.torch import TorchServing
    from lapsbench.vllm.serve import Serving


def version_of(engine: ServedBy, device: Device | None = None) -> tuple[str, str]:
    """Return the version of an engine, and what it runs on: as asked for, if there is such."""
    import torch  # noqa: PLC0415 - takes seconds

    there = "cuda" if torch.cuda.is_available() and device != "cpu" else "cpu"
    return (vllm_version() if engine == "vllm" else metadata.version("torch")), there


def serve(asked: Serve, policy: Policy) -> None:
    """Serve a cell on its engine."""
    if asked.wanted.engine == "vllm":
        from lapsbench.vllm.serve import serve as on_vllm  # noqa: PLC0415 - vLLM takes seconds to import

        on_vllm(asked.work, asked.setup, vllm_serving(asked, policy))
    else:
        from lapsbench.serving.torch import serve as on_torch  # noqa: PLC0415 - the other engine needs none of it

        on_torch(asked.work, asked.setup, torch_serving(asked, policy))


def vllm_serving(asked: Serve, policy: Policy) -> Serving:
    """Return what vLLM is asked for."""
    from lapsbench.vllm.serve import Serving  # noqa: PLC0415 - as above

    wanted = asked.wanted
    return Serving(
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


def torch_serving(asked: Serve, policy: Policy) -> TorchServing:
    """Return what our decoder is asked for."""
    from lapsbench.serving.prompts import drawn  # noqa: PLC0415 - as above
    from lapsbench.serving.torch import TorchServing  # noqa: PLC0415

    wanted, texts = asked.wanted, _texts(asked)
    return TorchServing(
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


def _texts(asked: Serve) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of the texts to send; none: made up."""
    if asked.wanted.prompts is None:
        return ()
    from lapsbench.execution.texts import tokens_of  # noqa: PLC0415 - transformers takes seconds

    return tokens_of(asked.wanted.prompts, asked.prepared.model)
