"""A child that serves: `python -m lapsbench.execution.child`, asked over stdin, answering on stdout.

One a cell: an engine does not let go of all it took, and its threads are to be one from the start. It ends with whoever
started it, however that ended: stdin is then closed. All that engines print goes to stderr.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, assert_never

from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.execution.process import ONE_THREAD
from lapsbench.execution.wanted import Asked, Prepare, Prepared, Serve, is_lookup
from lapsbench.files import cannot_write


def main() -> None:
    """Do what is asked, and answer in one line of JSON."""
    answer = answering()
    asked: Asked = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    told = _told(asked)
    answer.write(json.dumps(told) + "\n")
    answer.flush()
    sys.stderr.flush()
    os._exit(0)  # the thread still reads, and engines leave threads of their own


def _told(asked: Asked) -> dict[str, Any]:
    """Return the answer, or what went wrong: foreseen, as an error of ours; else in the engine's words."""
    try:
        match asked:
            case Prepare():
                return {"prepared": asdict(prepare(asked))}
            case Serve():
                serve(asked)
                return {"served": True}
            case _:
                assert_never(asked)
    except LapsbenchError as error:
        return {"error": [isinstance(error, UsageError), error.what, error.where, error.hint]}
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is one line for the user
        traceback.print_exc()
        if isinstance(error, OSError) and error.errno and isinstance(asked, Serve) and not error.filename:
            full = cannot_write(error, asked.log)
            return {"error": [False, full.what, full.where, full.hint]}
        return {"failed": line_of(error)}


def prepare(asked: Prepare) -> Prepared:
    """Find the models, and make folders of those that are none."""
    from lapsbench.execution.engines import version_of  # noqa: PLC0415 - a child that serves needs none of it
    from lapsbench.models.folders import context_tokens, model_folder  # noqa: PLC0415

    wanted = asked.wanted
    version, device = version_of(wanted.engine, wanted.device)
    own = wanted.engine == "torch"  # loads models itself, in float32 on a CPU, and knows drafts that are no models
    dtype = wanted.dtype or ("float32" if own and device == "cpu" else "bfloat16")
    if own and wanted.target.startswith("arch:"):
        return Prepared(wanted.target, wanted.draft, 0, version, device)
    model = model_folder(wanted.target, "--target", dtype)
    is_model = wanted.draft is not None and not own and not is_lookup(wanted.draft)
    draft = model_folder(wanted.draft or "", "--draft", dtype) if is_model else wanted.draft
    return Prepared(model, draft, context_tokens(model), version, device)


def serve(asked: Serve) -> None:
    """Serve a cell."""
    from lapsbench.execution.engines import serve as served  # noqa: PLC0415
    from lapsbench.policies.registry import find  # noqa: PLC0415

    policy = replace(find(asked.policy), name=asked.name)
    served(asked, policy)


def line_of(error: Exception) -> str:
    """Return what an engine's error says, in one line: pydantic, which vLLM checks its settings with, hides it."""
    details = getattr(error, "errors", None)
    if callable(details) and (found := details()):
        return str(found[0].get("msg", error)).removeprefix("Value error, ").splitlines()[0][:300]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def answering() -> IO[str]:
    """Keep stdout for the answer; what others print there goes to stderr."""
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return kept


def _end_with_parent() -> None:
    """Wait for the end of stdin, which the parent holds open."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    os.environ.update({name: value for name, value in ONE_THREAD.items() if name not in os.environ})
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent]
    main()
