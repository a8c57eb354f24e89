"""Numba, with a place to keep what it compiles: where it finds none, a private folder that goes with the process.

Numba looks in `NUMBA_CACHE_DIR`, beside the source and in the user's cache, and where none of them can be written, as
in a read-only image without a home, it refuses every function that asks to be kept. Import `njit` from here, so that
this is settled before the first one does.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numba
from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target

from lapsbench.compiled.native import VARIABLE, Native, key, machine
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

njit: Any = numba.njit
REFUSES = (NumbaError, KeyError)
"""What Numba raises where it cannot compile."""
_bare = partial(njit, error_model="numpy", nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
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
        "the simulator was compiled for this command alone, which takes half a minute: Numba found no folder that can "
        f"be written to keep it; set {VARIABLE} to one"
    )


remark = _settle()


class Part(JITCodeLibrary):
    """What Numba makes of one function: left as it is, to be optimised and made machine code where all is together.

    Numba does both for each of the simulator's 150 parts, though hardly any is left over by itself: most of them end up
    inside of who calls them.
    """

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:  # noqa: ARG002
        """Return that there is none."""
        return 0

    def whole(self, symbol: str) -> bytes:
        """Optimise it with all that it calls, and return it as an object file that shows one symbol."""
        self._ensure_finalized()
        for part in self._final_module.functions:
            if not part.is_declaration and part.name != symbol:
                part.linkage = "internal"
        with ThreadPoolExecutor(1) as pool:  # Ctrl-C is heard while this thread waits; LLVM takes ten seconds at a time
            pool.submit(super()._optimize_final_module).result()
            return bytes(pool.submit(machine().emit_object, self._final_module).result())

    def lasts(self) -> bool:
        """Say whether other processes could use it: it has no addresses of this one, nor names only Numba knows."""
        everybody = ctypes.CDLL(None)
        names = [part.name for part in self._final_module.functions if part.is_declaration]
        return not self.has_dynamic_globals and all(hasattr(everybody, name) for name in names if name[:5] != "llvm.")


@contextmanager
def _in_parts() -> Iterator[None]:
    """Have Numba leave what it makes as it is, with no place in memory where its environment could be written."""
    codegen = cpu_target.target_context.codegen()
    usual, codegen._library_class = codegen._library_class, Part  # noqa: SLF001 - Numba has no setting for it
    codegen.set_env = lambda *_: None
    try:
        yield
    finally:
        codegen._library_class = usual  # noqa: SLF001
        del codegen.set_env


def object_of(function: Any, result: str) -> tuple[bytes, bool]:
    """Compile a function of int64 alone; return its symbol, a new line, and an object file; and whether that lasts."""
    with global_compiler_lock, _in_parts():
        made = _bare(getattr(types, result)(*(types.int64,) * function.__code__.co_argcount))(function)
        (compiled,) = made.overloads.values()
        symbol, part = compiled.fndesc.llvm_func_name, compiled.library
        return symbol.encode() + b"\n" + part.whole(symbol), part.lasts()


def plugged(function: Any, *, cache: bool = True) -> Native:
    """Compile a user's function of int64 to float64, or load it from Numba's cache.

    Numba knows it by its own file alone, and its name: so that has what our code is known by, whose records it reads.
    """
    ours = f"_{key().hex()[:16]}"
    if not function.__qualname__.endswith(ours):
        function.__qualname__ += ours
    signature = types.float64(*(types.int64,) * function.__code__.co_argcount)
    try:
        made = _bare(signature, cache=cache)(function)
    except RuntimeError:  # Numba cannot cache it: no writable folder, or no file behind the function
        if not cache:
            raise
        return plugged(function, cache=False)
    (compiled,) = made.overloads.values()
    return Native(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name), made, ctypes.c_double)
