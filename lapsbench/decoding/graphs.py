"""Run a step as a captured CUDA graph on CUDA, as a plain call anywhere else.

Capture follows the PyTorch manual ("CUDA Graphs", torch.cuda.graph): static inputs, warm-up on a side stream, a memory
pool. A captured step must be safe to repeat: warm-up runs it, and it then writes the same cache rows again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from torch import Tensor

WARM_UPS = 3
"""Runs before capture: lazy initialisation and the choice of kernels must not happen inside it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    output: Any  # what the captured function returned


class Runner:
    """Calls steps, capturing each shape of each step once.

    Args:
        device: where the steps run.
        eager: never capture.
    """

    def __init__(self, device: torch.device, *, eager: bool = False) -> None:
        self.device = device
        self.captures = device.type == "cuda" and not eager
        self._captured: dict[Hashable, _Captured] = {}
        self._pools: dict[str, Any] = {}  # handles whose type is private to torch

    def call(self, step: str, shape: Hashable, function: Callable[..., T], *inputs: Tensor) -> T:
        """Return function(*inputs).

        Args:
            step: name of the step. All graphs of a step share memory, so on CUDA what a call returns holds until the
                next call of the same step; graphs of different steps never touch each other's results.
            shape: everything else the function depends on: two calls of equal step and shape run the same graph.
            function: tensors in, tensors out, no waiting for the device; the same inputs give the same again.
            inputs: copied into the graph's own.
        """
        if not self.captures:
            return function(*inputs)
        key = (step, shape)
        if key not in self._captured:
            self._captured[key] = self._capture(step, function, inputs)
        captured = self._captured[key]
        for static, given in zip(captured.inputs, inputs, strict=True):
            static.copy_(given)
        captured.graph.replay()
        output: T = captured.output
        return output

    def release(self) -> None:
        """Forget all graphs and give their memory back."""
        self._captured.clear()
        self._pools.clear()

    def _capture(self, step: str, function: Callable[..., T], inputs: tuple[Tensor, ...]) -> _Captured:
        static = tuple(tensor.clone() for tensor in inputs)
        side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # torch types it not
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                function(*static)
        torch.cuda.current_stream(self.device).wait_stream(side)
        pool = self._pools.setdefault(step, torch.cuda.graph_pool_handle())
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            output = function(*static)
        return _Captured(graph, static, output)
