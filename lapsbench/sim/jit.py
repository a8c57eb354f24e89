"""How the simulator is compiled: NumPy's arithmetic (x / 0 is infinite), free of Python's lock.

An `entry` is called from Python with integers and addresses, and kept as machine code with all that it calls in it
(`compiled.native`). The 150 parts are kept nowhere else, and have no wrappers for Python, which would never call them.

`inlined` parts are copied into their callers by LLVM: a round of mlfq 22.4 to 21.2 ns, of fcfs 7.0 to 6.7, for 2 s of
compiling. (Numba's own `inline="always"` copies before it infers types, and takes minutes.)
"""

from __future__ import annotations

from typing import Any

from lapsbench.compiled.later import later

jit: Any = later(error_model="numpy", nogil=True)
inlined: Any = later(error_model="numpy", nogil=True, forceinline=True)
kept: Any = later(cache=True, error_model="numpy", nogil=True)
"""Called from Python with arrays; kept by Numba."""
