"""Every engine in plain Python: `common` is what they share, and each rule set has its own module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.sim.reference.ideal import Ideal
from lapsbench.sim.reference.prices import chunk_time, interpolate
from lapsbench.sim.reference.vllm import Vllm

if TYPE_CHECKING:
    from lapsbench.core import Engine, Outcome, Policy, Workload
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup

__all__ = ["Ideal", "Vllm", "chunk_time", "interpolate", "replay"]


def replay(work: Workload, engine: Engine, policy: Policy, costs: StepCosts, setup: Setup) -> Outcome:
    """Replay one policy. Same arguments and same result, bit for bit, as `kernel.replay`."""
    twin = {"ideal": Ideal, "vllm": Vllm}[engine.rules]
    return twin(work, engine, policy, costs, setup).run()
