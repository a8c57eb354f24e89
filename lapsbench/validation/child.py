"""A child that holds an engine and times steps on it: `python -m lapsbench.validation.child`.

Told over stdin what engine to make, then a line of JSON each time it is to measure; answers a line each. It outlives a
session's cells, so that its probes tell the machine's drift and nothing else, and ends when stdin does.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import sys
import traceback
from typing import TYPE_CHECKING, Any

from lapsbench.errors import LapsbenchError
from lapsbench.execution.child import answering, line_of
from lapsbench.vllm.profiling import taken
from lapsbench.vllm.wanted import Step

if TYPE_CHECKING:
    from lapsbench.validation.asked import Measure


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
        bench.rounds(4)
        tell({"ready": True})
        for line in sys.stdin.buffer:
            sets = [[Step(**step) for step in steps] for steps in json.loads(line)]
            tell({"taken": [each for steps in sets for each in taken(bench, steps)]})
    except LapsbenchError as error:
        tell({"error": [error.what, error.where, error.hint]})
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is one line for the user
        traceback.print_exc()
        tell({"error": [line_of(error), "the engine", "other settings: finished cells are kept"]})
    sys.stderr.flush()
    os._exit(0)  # engines leave threads of their own


def _bench(asked: Measure) -> Any:
    """Make what is measured on."""
    wanted, prepared, engine = asked.wanted, asked.prepared, asked.engine
    if wanted.engine == "torch":
        from lapsbench.validation.torch_bench import TorchBench  # noqa: PLC0415 - torch takes seconds

        return TorchBench(asked)
    from lapsbench.vllm.composing import Composed, Shape  # noqa: PLC0415 - vLLM takes seconds to import

    return Composed(
        Shape(
            prepared.model,
            engine.draft_tokens,
            engine.max_batch,
            asked.longest,
            engine.batched_tokens,
            engine.block_tokens,
            wanted.dtype or "auto",
        )
    )


if __name__ == "__main__":
    main()
