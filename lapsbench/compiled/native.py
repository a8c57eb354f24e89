"""Machine code kept on disk and called without Numba, whose import alone would take as long as the rest of a start.

Numba makes it, once (`compiler`): an object file with no wrappers for Python, which takes and returns numbers alone.
llvmlite loads it, and ctypes calls it as Numba's own functions call each other: what it returns is written to where its
first argument points, an exception to where the second does, and it returns whether there was one.

A file holds its key, which is a hash of all our code that may be compiled into it, of the processor and of who
compiled; a hash of the rest; and the rest. One that does not hold is compiled anew and replaced.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pickle
import sys
import threading
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llvmlite
import llvmlite.binding as llvm

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = Path(__file__).parents[1]
COMPILED = ("compiled", "sim", "policies", "drafts", "core.py")
"""Folders and files of ours from which compiled code takes functions, records and constants."""
DIGEST = 32
"""Bytes of a hash."""
_lock = threading.RLock()
begun: list[Callable[[str], None]] = []
"""Are told the name of each function that is about to be compiled, because it is not on disk."""


class Native:
    """A compiled function of whole numbers; calling it lets go of Python's lock.

    Attributes:
        address: for compiled functions, which call it by `pointers.answer`.
    """

    def __init__(self, address: int, held: object, result: type[Any] = ctypes.c_int64) -> None:
        self.address, self.held, self.result = address, held, result
        self._function = ctypes.CFUNCTYPE(ctypes.c_int32)(address)

    def __call__(self, *arguments: int) -> Any:
        """Call it; what it raises, it raises here."""
        result, raised = self.result(), ctypes.c_void_p()
        places = ctypes.byref(result), ctypes.byref(raised)
        if self._function(*places, *map(ctypes.c_int64, arguments)):
            raise _exception(raised.value)
        return result.value


class _Raised(ctypes.Structure):
    """Numba's account of an exception: it begins with the pickled class, arguments and place."""

    _fields_ = (("pickled", ctypes.c_void_p), ("size", ctypes.c_int32))


def _exception(address: int | None) -> BaseException:
    if not address:
        return RuntimeError("compiled code failed")
    told = _Raised.from_address(address)
    kind, arguments, _ = pickle.loads(ctypes.string_at(told.pickled, told.size))  # noqa: S301 - from our own code
    raised: BaseException = kind(*arguments or ())
    return raised


def ours(function: Callable[..., Any]) -> bool:
    """Say whether a function is of this package, so that `COMPILED` has all that it calls."""
    return Path(function.__code__.co_filename).is_relative_to(PACKAGE)


def native(name: str, make: Callable[[], Any], result: str = "int64") -> Native:
    """Return the function of this full name as machine code, from disk if it is there.

    `make` returns the Python to compile, which takes int64 alone and returns the result's type.
    """
    with _lock:
        kept = _kept(name)
        if kept is None:
            for tell in begun:
                tell(name)
            from lapsbench.compiled.compiler import object_of  # noqa: PLC0415 - imports Numba

            kept, lasts = object_of(make(), result)
            if lasts:
                _keep(name, kept)
        return loaded(kept, result)


def loaded(kept: bytes, result: str) -> Native:
    """Return the function of an object file, before which its symbol stands."""
    symbol, _, code = kept.partition(b"\n")
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return Native(
        engine.get_function_address(symbol.decode()),
        engine,
        getattr(ctypes, f"c_{result.replace('float64', 'double')}"),
    )


def machine() -> llvm.TargetMachine:
    """Return the processor here, as code is made for it and loaded."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target, (cpu, features) = llvm.Target.from_triple(llvm.get_process_triple()), _processor()
    reloc = "static" if target.name.startswith("x86") else "pic" if target.name.startswith("ppc") else "default"
    return target.create_target_machine(cpu, features, 3, reloc, "jitdefault", jit=True)


@cache
def _processor() -> tuple[str, str]:
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@cache
def key() -> bytes:
    """Return the hash of all that decides over the machine code."""
    settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_") and item[0] != VARIABLE)
    told = (_numba(), llvmlite.__version__, sys.version_info[:2], llvm.get_process_triple(), _processor(), settings)
    digest = hashlib.blake2b(repr(told).encode(), digest_size=DIGEST)
    for file in _sources():
        digest.update(file.read_bytes())
    return digest.digest()


def _numba() -> bytes:
    """Return what tells one version of Numba from another, without importing it."""
    spec = find_spec("numba")
    init = Path(spec.origin) if spec and spec.origin else None
    return b"" if init is None else (init.parent / "_version.py").read_bytes()


def _sources() -> list[Path]:
    """Return the files of `COMPILED`."""
    found = []
    for place in COMPILED:
        if place.endswith(".py"):
            found.append(PACKAGE / place)
            continue
        for folder, _, names in os.walk(PACKAGE / place):
            found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found)


VARIABLE = "NUMBA_CACHE_DIR"


def folders() -> list[Path]:
    """Return where machine code may be kept, in the order in which Numba looks for a place of its own."""
    if own := os.environ.get(VARIABLE):
        return [Path(own, "lapsbench")]
    home = os.environ.get("XDG_CACHE_HOME")
    with suppress(RuntimeError):  # nobody's home
        return [
            PACKAGE / "sim" / "__pycache__",
            (Path(home) if home else Path.home() / ".cache") / "lapsbench" / "native",
        ]
    return [PACKAGE / "sim" / "__pycache__"]


def file_of(folder: Path, name: str) -> Path:
    """Return where a folder keeps the function of this full name."""
    return folder / f"{name}.{sys.implementation.cache_tag}.native"


def _kept(name: str) -> bytes | None:
    """Return what is on disk, if it is whole and of this code, processor and compiler."""
    for folder in folders():
        with suppress(OSError):
            held = file_of(folder, name).read_bytes()
            known, digest, rest = held[:DIGEST], held[DIGEST : 2 * DIGEST], held[2 * DIGEST :]
            if known == key() and digest == _digest(rest):
                return rest
    return None


def _keep(name: str, rest: bytes) -> None:
    """Put it on disk, whole or not at all, in the first folder that takes it."""
    for folder in folders():
        part = folder / f"{name}.{os.getpid()}"
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                part.write_bytes(key() + _digest(rest) + rest)
                part.replace(file_of(folder, name))
            finally:
                part.unlink(missing_ok=True)
            return


def _digest(rest: bytes) -> bytes:
    return hashlib.blake2b(rest, digest_size=DIGEST).digest()
