"""A child that holds an engine, times steps on it and serves cells with it: `python -m lapsbench.validation.child`.

Told over stdin what engine to make, then each time what to do; answers a line of JSON each. It outlives a session's
cells: what one process takes for a step and another does not is then no difference between them. Ends when stdin does.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import sys
import traceback
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lapsbench.errors import LapsbenchError
from lapsbench.execution.child import answering, line_of
from lapsbench.execution.wanted import Serve
from lapsbench.policies.registry import find
from lapsbench.validation.probing import Probing
from lapsbench.vllm.profiling import taken

if TYPE_CHECKING:
    from lapsbench.serving.clock import Clock, ClockKind
    from lapsbench.validation.asked import Measure
    from lapsbench.vllm.wanted import Step


def main() -> None:
    """Make the engine, then measure whatever is asked."""
    answer = answering()

    def tell(told: dict[str, Any]) -> None:
        answer.write(json.dumps(told) + "\n")
        answer.flush()

    asked: Measure = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    try:
        bench = _bench(asked)
        gc.collect()
        gc.freeze()
        bench.seat(1, 8)
        list(bench.rounds(4))
        tell({"ready": True})
        while (task := _next()) is not None:
            if isinstance(task, Serve):
                probes = list[Probing]()
                bench.serve(task, replace(find(task.policy), name=task.name), partial(_probing, bench, probes))
                tell(asdict(probes[0].probes()))
            elif isinstance(task, int):
                tell(asdict(Probing("cpu", bench.parts).probes(task)))
            else:
                tell(_measured(bench, task))
    except LapsbenchError as error:
        tell({"error": [error.what, error.where, error.hint]})
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is one line for the user
        traceback.print_exc()
        tell({"error": [line_of(error), "the engine", "other settings: finished cells are kept"]})
    sys.stderr.flush()
    os._exit(0)  # engines leave threads of their own


def _probing(bench: Any, probes: list[Probing], kind: ClockKind) -> Clock:
    probes.append(Probing(kind, bench.parts))
    return probes[-1]


def _measured(bench: Any, sets: list[list[Step]]) -> dict[str, Any]:
    """Time steps, and probes in between."""
    probes, lines = Probing("cpu", bench.parts), list[dict[str, Any]]()
    for steps in sets:
        for line in taken(bench, steps):
            lines.append(line | {"at_s": probes()})
            probes.keep_pace()
    return {"taken": lines, "probes": asdict(probes.probes())}


def _next() -> Any:
    """Return what is to be done next: sets of steps to time, turns of probes, a cell to serve, or nothing any more."""
    try:
        return pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    except EOFError:
        return None


def _bench(asked: Measure) -> Any:
    """Make what is measured on."""
    if asked.wanted.engine == "torch":
        from lapsbench.validation.torch_bench import TorchBench  # noqa: PLC0415 - torch takes seconds

        return TorchBench(asked)
    from lapsbench.validation.vllm_bench import VllmBench  # noqa: PLC0415 - vLLM takes seconds to import

    return VllmBench(asked)


if __name__ == "__main__":
    main()
