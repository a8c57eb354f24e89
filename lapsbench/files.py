"""Opens and writes a file a user names: gzip and zstd are unpacked, told by content; what is written appears whole.

Knows bytes; what they mean is for the readers of traces, acceptance and costs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

BOM = b"\xef\xbb\xbf"
PART = ".lapsbench-part"
"""How the name of a file ends that is being written, or was left so by a command that was killed."""
_UNPACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_REFUSED = {b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def content(path: Path, count: int | None = None) -> bytes:
    """Return what the file holds, unpacked; at most the first `count` bytes of it.

    Raises:
        LapsbenchError: no such file, not a regular one, not readable, damaged, or packed in another way.
    """
    where = str(path)
    try:
        if path.is_dir():
            raise LapsbenchError("is a folder, not a file", where=where, hint="the path of one file in it")
        if path.exists() and not path.is_file():
            raise LapsbenchError("is not a regular file", where=where, hint="saving it to a file first")
        with path.open("rb") as file:
            magic = file.read(8)
            file.seek(0)
            for start, packing in _UNPACKED.items():
                if magic.startswith(start):
                    return _unpack(path, packing, count)
            for start, packing in _REFUSED.items():
                if magic.startswith(start):
                    raise LapsbenchError(
                        f"is compressed ({packing})", where=where, hint="unpacking it, or gzip or zstd"
                    )
            return file.read(-1 if count is None else count)
    except FileNotFoundError as error:
        raise LapsbenchError("no such file", where=where, hint="the full path of the file") from error
    except PermissionError as error:
        raise LapsbenchError("no permission to read it", where=where, hint=f"chmod +r {path}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise LapsbenchError(f"cannot be opened ({error})", where=repr(where), hint="another path") from error


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
    content(path, 1)  # says what is wrong with it
    with path.open("rb") as file:
        packed = file.read(4).startswith(tuple(_UNPACKED))
    return pa.BufferReader(content(path)) if packed else path


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


def _unpack(path: Path, packing: str, count: int | None) -> bytes:
    try:
        with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, packing) as stream:
            return bytes(stream.read(count))
    except (pa.ArrowException, OSError, ValueError) as error:
        what = f"is {packing}, but truncated or damaged ({first_line(error)})"
        raise LapsbenchError(what, where=str(path), hint="copying or packing it again") from error
