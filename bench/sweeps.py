"""A sweep of the Azure conversation trace, tiled to a size, as `lapsbench replay` would make it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from publicdata import public_path
from workload import AZURE, INSTEAD, tiled

from lapsbench.planning import plan
from lapsbench.scenario import Scenario
from lapsbench.sim.sweep import Sweep
from lapsbench.traces import open_trace
from lapsbench.traces.save import write_trace


def made(requests: int, policies: tuple[str, ...], loads: tuple[float, ...], seeds: int) -> Sweep:
    """Return the sweep, ready to run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.parquet"
        write_trace(tiled(open_trace(str(public_path(AZURE) or INSTEAD)), requests), path)
        return Sweep(plan(Scenario(trace=str(path), policies=policies, load=loads, repeats=seeds))[0])
