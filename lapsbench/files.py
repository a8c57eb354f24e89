"""Opens what a user names: a file, a pipe, or `-` for stdin; gzip and zstd are unpacked, told by content.

Knows bytes; what they mean is for the readers of traces, acceptance and costs. A pipe gives its bytes once: whoever
opens one keeps what it gave.
"""

from __future__ import annotations

import stat
import sys
from typing import TYPE_CHECKING

import pyarrow as pa

from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

STDIN = "-"
"""The name of standard input."""
BOM = b"\xef\xbb\xbf"
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
