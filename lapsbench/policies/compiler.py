"""Numba, with a place to keep what it compiles: where it finds none, a private folder that goes with the process.

Numba looks in `NUMBA_CACHE_DIR`, beside the source and in the user's cache, and where none of them can be written, as
in a read-only image without a home, it refuses every function that asks to be kept. Import `njit` from here, so that
this is settled before the first one does.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from typing import Any

import numba

from lapsbench.errors import LapsbenchError

VARIABLE = "NUMBA_CACHE_DIR"
njit: Any = numba.njit
_made: list[str] = []


def forget() -> None:
    """Remove the private folder, where there is one."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)


def _settle() -> str:
    """Return what to tell of a place that had to be made; empty where Numba has one."""
    try:
        njit(cache=True)(_settle)  # compiles nothing yet: it only looks for a place
    except RuntimeError:
        pass
    else:
        return ""
    try:
        # nobody else's: what lies there is loaded as code
        folder = tempfile.mkdtemp(prefix="lapsbench-numba-")
    except OSError as error:
        what = "no folder can be written to keep compiled code"
        raise LapsbenchError(what, where="numba", hint=f"{VARIABLE} or TMPDIR: a folder that can be written") from error
    _made.append(folder)
    atexit.register(forget)
    os.environ[VARIABLE] = folder  # for worker processes too
    numba.config.reload_config()
    return (
        "the simulator was compiled for this command alone, which takes a minute: Numba found no folder that can be "
        f"written to keep it; set {VARIABLE} to one"
    )


remark = _settle()
