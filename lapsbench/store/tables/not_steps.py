"""Times that price no step: of single layers, or of whole requests. They are refused by name, with the way to go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from lapsbench.errors import LapsbenchError
from lapsbench.store.tables.own import NEEDS
from lapsbench.store.tables.reader import CostReader, header

if TYPE_CHECKING:
    from pathlib import Path

_LAYERS = {"op_name": "AIConfigurator", "layer_name": "LLMServingSim", "layer": "", "kernel_name": ""}
_VIDUR = "time_stats."
_PER_LAYER = 'docs/profiles.md, "From times per layer"'


def _layers(text: bytes) -> str | None:
    """Return whose table of layers this is; None if it is none."""
    names = header(text)
    if any(name.startswith(_VIDUR) for name in names):
        return "Vidur"
    return next((whose for name, whose in _LAYERS.items() if name in names), None)


def _refuse_layers(text: bytes, path: Path) -> NoReturn:
    whose = _layers(text)
    what = f"holds times per layer{f' ({whose})' if whose else ''}, not of whole steps"
    hint = f"adding up the layers of a step into a CSV {NEEDS} ({_PER_LAYER})"
    raise LapsbenchError(what, where=str(path), hint=hint)


def _refuse_requests(_: bytes, path: Path) -> NoReturn:
    what = "holds times of whole requests (vllm bench latency), without batch and lengths: they price no step"
    hint = (
        "it with --output-len N and with 1, at each batch: a step takes (latency of N - latency of 1) / (N - 1), "
        f"a prefill the latency of 1, for a CSV {NEEDS}"
    )
    raise LapsbenchError(what, where=str(path), hint=hint)


LAYERS: Final = CostReader("", lambda text: _layers(text) is not None, _refuse_layers)
REQUESTS: Final = CostReader(
    "", lambda text: text.lstrip().startswith(b"{") and b'"avg_latency"' in text, _refuse_requests
)
