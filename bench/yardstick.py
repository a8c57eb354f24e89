"""Compiles and calls `yardstick.c`, the hand-written fcfs the kernel is measured by."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lapsbench.core import Engine, Outcome, Workload
    from lapsbench.sim.cost import StepCosts

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-O3", "-ffp-contract=off", "-shared", "-fPIC")  # no FMA: its results must be the kernel's, bit for bit

SIZES = ("requests", "max_batch", "draft_tokens", "contexts", "queries", "cacheds")
WORK = ("arrival_s", "prompt_tokens", "output_tokens", "recording_tokens", "recording_shift", "recording_start")
PRICES = ("context", "step_s", "step_limit", "query", "cached", "chunk_s", "chunk_limit")
TIMES = ("admitted_s", "first_token_s", "finished_s", "itl_max_s", "attained_s")
COUNTS = ("rounds", "accepted_tokens")
TOTALS = ("steps", "lookups", "lookups_beyond")


class Replay(ctypes.Structure):
    """`Replay` of yardstick.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in SIZES),
        *((name, ctypes.c_void_p) for name in (*WORK, "accept_runs", *PRICES, *TIMES, *COUNTS)),
        *((name, ctypes.c_int64) for name in TOTALS),
    )


@dataclass(frozen=True, slots=True)
class Result:
    """What the C loop returned, and how long it took."""

    seconds: float
    per_request: dict[str, NDArray[Any]]
    makespan_s: float
    totals: dict[str, int]

    def differs(self, outcome: Outcome) -> list[str]:
        """Name every result that is not the kernel's, bit for bit (attained service is not in an outcome)."""
        ours = {name: mine for name, mine in self.per_request.items() if name != "attained_s"}
        wrong = [
            name for name, mine in ours.items() if not np.array_equal(mine, getattr(outcome, name), equal_nan=True)
        ]
        wrong += [name for name, mine in self.totals.items() if mine != getattr(outcome, name)]
        return wrong if self.makespan_s == outcome.makespan_s else [*wrong, "makespan_s"]


class Yardstick:
    """The C loop, compiled into `folder`."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise FileNotFoundError("no C compiler (cc) on the path")
        library = folder / "yardstick.so"
        subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(library), "-lm"], check=True)
        self.loop = ctypes.CDLL(str(library)).replay
        self.loop.argtypes, self.loop.restype = (ctypes.POINTER(Replay),), ctypes.c_double

    def run(self, work: Workload, engine: Engine, costs: StepCosts) -> Result:
        """Replay fcfs; only the loop is timed."""
        n = len(work)
        results: dict[str, NDArray[Any]] = {name: np.zeros(n) for name in TIMES}
        results |= {name: np.zeros(n, np.int32) for name in COUNTS}
        arrays = results | {name: np.ascontiguousarray(getattr(work, name)) for name in (*WORK, "accept_runs")}
        arrays |= {name: np.ascontiguousarray(getattr(costs, name)) for name in PRICES}
        knots = (len(costs.context), len(costs.query), len(costs.cached))
        sizes = dict(zip(SIZES, (n, engine.max_batch, engine.draft_tokens, *knots), strict=True))
        arguments = Replay(**sizes, **{name: array.ctypes.data for name, array in arrays.items()})
        began = time.perf_counter()
        makespan_s = self.loop(ctypes.byref(arguments))
        seconds = time.perf_counter() - began
        return Result(seconds, results, makespan_s, {name: getattr(arguments, name) for name in TOTALS})
