"""How the simulator is compiled: NumPy's arithmetic (x / 0 is infinite), free of Python's lock.

Only an `entry`, which Python calls, is cached on disk: its file holds all that it calls. Before, each of the 170 parts
looked for a place to keep itself when it was imported, and had wrappers for Python that nobody called compiled.

`inlined` parts are copied into their callers by LLVM: a round of mlfq 22.4 to 21.2 ns, of fcfs 7.0 to 6.7, for 2 s of
compiling. (Numba's own `inline="always"` copies before it infers types, and takes minutes.)
"""

from __future__ import annotations

from functools import partial
from typing import Any

from lapsbench.policies.compiler import njit

_compiled = partial(njit, error_model="numpy", nogil=True)
entry: Any = _compiled(cache=True)
jit: Any = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True)
inlined: Any = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)
