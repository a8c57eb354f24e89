"""How the simulator is compiled: cached on disk, NumPy's arithmetic (x / 0 is infinite), free of Python's lock.

`inlined` parts are copied into their callers by LLVM: a round of mlfq 22.4 to 21.2 ns, of fcfs 7.0 to 6.7, for 2 s of
compiling. (Numba's own `inline="always"` copies before it infers types, and takes minutes.)
"""

from __future__ import annotations

from typing import Any

from lapsbench.policies.compiler import njit

jit: Any = njit(cache=True, error_model="numpy", nogil=True)
inlined: Any = njit(cache=True, error_model="numpy", nogil=True, forceinline=True)
