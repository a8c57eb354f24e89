"""Opens and writes what a user names: a file, a pipe, `-` for stdin; gzip and zstd are unpacked, told by content.

What is written appears whole. Knows bytes; what they mean is for the readers of traces, acceptance and costs. A pipe
gives its bytes once: whoever opens one keeps what it gave.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN = "-"
"""The name of standard input."""
BOM = b"\xef\xbb\xbf"
PART = ".lapsbench-part"
"""How the name of a file ends that is being written, or was left so by a command that was killed."""
_UNPACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_REFUSED = {b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def content(path: Path) -> bytes:
    """Return what the file, pipe or stdin holds, unpacked.

    Raises:
        UsageError: stdin is a terminal.
        LapsbenchError: no such file, neither a file nor a pipe, not readable, damaged, or packed in another way.
    """
    where = shown(path)
    try:
        data = _stdin() if str(path) == STDIN else _bytes(path)
    except FileNotFoundError as error:
        raise LapsbenchError("no such file", where=where, hint="the full path of the file") from error
    except PermissionError as error:
        raise LapsbenchError("no permission to read it", where=where, hint=f"chmod +r {path}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise LapsbenchError(f"cannot be opened ({error})", where=repr(where), hint="another path") from error
    return _unpacked(data, where)


def shown(path: Path) -> str:
    """Return what a file is called in errors and results: its path, or what stands for one."""
    if str(path) == STDIN:
        return "stdin"
    return "pipe" if str(path).startswith(("/dev/fd/", "/proc/self/fd/")) else str(path)


def text(path: Path) -> bytes:
    """Return the whole file, unpacked, without a byte-order mark.

    Raises:
        LapsbenchError: as for `content`.
    """
    return content(path).removeprefix(BOM)


def parquet(path: Path) -> Path | pa.BufferReader:
    """Return what pyarrow opens as Parquet: the path, or the content where the file is packed once more.

    Raises:
        LapsbenchError: as for `content`.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except (OSError, ValueError):
        magic = b""
    return path if magic == b"PAR1" else pa.BufferReader(content(path))


@contextlib.contextmanager
def whole(path: Path, where: str = "") -> Iterator[Path]:
    """Give a place beside `path` to write to, and move it there at the end: the file appears whole or not at all.

    Whatever goes wrong in between, a Ctrl-C too, leaves what `path` held before and nothing beside it. A device or a
    pipe is written to as it is.

    Args:
        path: the file that is wanted.
        where: what an error calls it, if not by its path.

    Raises:
        LapsbenchError: it cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        real = Path(os.path.realpath(path))  # a link stays one
        if _in_place(path, real):
            yield path
            return
        part = real.with_name(f"{real.name}.{os.getpid()}{PART}")  # two commands at once write two
        try:
            yield part
            if real.exists():
                shutil.copymode(real, part)
            part.replace(real)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(error, where or str(path)) from error


def _in_place(path: Path, real: Path) -> bool:
    """Whether there is no writing beside it: no regular file, a stream by its name, or a folder that takes no more."""
    if os.fspath(path.absolute()).startswith(("/dev/", "/proc/")):
        return True
    return real.exists() and not (real.is_file() and os.access(real.parent, os.W_OK))


def cannot_write(error: OSError, where: str) -> LapsbenchError:
    """Return what to say when a file cannot be written; Arrow and polars hide the reason in a longer text."""
    reason = error.strerror or str(error).partition("Detail: ")[2] or str(error)
    reason = (reason.partition("] ")[2] or reason).partition(" (os error")[0]
    return LapsbenchError(f"cannot write: {reason}", where=where, hint="another place, or more room on the disk")


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line of at most 160 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def _bytes(path: Path) -> bytes:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise LapsbenchError("is a folder, not a file", where=str(path), hint="the path of one file in it")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise LapsbenchError("is not a regular file", where=str(path), hint="saving it to a file first")
    return path.read_bytes()


def _stdin() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("is a terminal, not a file", where="stdin", hint="a pipe: zcat FILE | lapsbench ... -")
    return sys.stdin.buffer.read()


def _unpacked(data: bytes, where: str) -> bytes:
    refused = [packing for start, packing in _REFUSED.items() if data.startswith(start)]
    if refused:
        raise LapsbenchError(f"is compressed ({refused[0]})", where=where, hint="unpacking it, or gzip or zstd")
    packed = [packing for start, packing in _UNPACKED.items() if data.startswith(start)]
    if not packed:
        return data
    try:
        with pa.CompressedInputStream(pa.BufferReader(data), packed[0]) as stream:
            return bytes(stream.read())
    except (pa.ArrowException, OSError, ValueError) as error:
        what = f"is {packed[0]}, but truncated or damaged ({first_line(error)})"
        raise LapsbenchError(what, where=where, hint="copying or packing it again") from error
