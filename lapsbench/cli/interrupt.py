"""What Ctrl-C does: one line on stderr and exit code 130, whenever it comes.

While a module is being imported, or Numba compiles, the process ends at once: nothing is lost, and a KeyboardInterrupt
there comes out of other people's code as anything, or not at all (3 of 8 were swallowed by LLVM's callbacks). Elsewhere
it is raised, so that files and locks are let go; a second one does not wait for that, and nor does one that was raised
where Python drops what is raised, as in `__del__` (2 of 40 were, in that of Dask's futures). Imports next to nothing,
since it is there before everything else.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect; 0 fine, 1 error, 2 usage, 3 a gate failed."""
HOW_TO_GO_ON = "interrupted; with --out, finished cells are kept and the same command goes on"
_ROOMS = (("numba", "core", ""), ("llvmlite", ""), ("lapsbench", "compiled", ""))
_SWALLOWS = ("<frozen importlib", *(os.path.join(*room) for room in _ROOMS))  # noqa: PTH118
"""Files, by a part of their names, in which an interrupt cannot be raised."""
_CLEAN_LINE_AND_CURSOR = "\r\x1b[2K\x1b[?25h"


def listen() -> None:
    """Take over Ctrl-C, unless this process was told to ignore it or somebody else listens already."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _hear)
    except ValueError:  # not the main thread
        pass


def finish(code: int) -> None:
    """Let no Ctrl-C disturb the way out: from now on it only makes it shorter."""
    if signal.getsignal(signal.SIGINT) in (_hear, leave):
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))


def leave(*_: object) -> None:
    """Say that this was interrupted, and end at once; finished work is on disk whenever this happens."""
    clean = _CLEAN_LINE_AND_CURSOR if os.isatty(2) else ""
    try:
        os.write(2, f"{clean}error: {HOW_TO_GO_ON}\n".encode())
        if compiler := sys.modules.get("lapsbench.compiled.compiler"):
            compiler.forget()
    finally:
        os._exit(INTERRUPTED)


def _hear(_: int, frame: FrameType | None) -> None:
    while frame is not None:
        if any(part in frame.f_code.co_filename for part in _SWALLOWS):
            leave()
        frame = frame.f_back
    signal.signal(signal.SIGINT, leave)
    sys.unraisablehook = _dropped
    raise KeyboardInterrupt


def _dropped(what: sys.UnraisableHookArgs) -> None:
    if issubclass(what.exc_type, KeyboardInterrupt):
        leave()
    sys.__unraisablehook__(what)
