"""One command at a time in a folder that is written: a lock of the operating system, and beside it a word on whose.

The lock vanishes with its process, however that ends; the word may outlive it, and is believed only while the lock is
held. Knows folders and processes; knows nothing of what is written there.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import os
import shlex
import socket
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from lapsbench import files
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_FILE = ".lock"
HOLDER_FILE = ".lock.json"
PATIENCE_S = 0.5
"""So long a writer waits: for a reader that looks whether the lock is held, and for the word of who holds it."""
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What file systems without locks answer: some network mounts."""


class FolderLock:
    """The lock of a folder that exists, held until `release`.

    Attributes:
        remark: what to tell of a file system that has no locks; else empty.

    Raises:
        LapsbenchError: another command holds it, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remark = ""
        from filelock import FileLock, Timeout  # noqa: PLC0415 - most replays keep nothing

        self._lock = FileLock(folder / LOCK_FILE)
        try:
            _acquire(self._lock, PATIENCE_S)
        except Timeout as error:
            raise _busy(folder, _who(folder)) from error
        except (OSError, NotImplementedError, UserWarning) as error:
            if getattr(error, "errno", errno.ENOSYS) not in NO_LOCKS:
                raise files.cannot_write(error, str(folder)) from error  # type: ignore[arg-type] # only OSError has one
            reason = getattr(error, "strerror", None) or os.strerror(errno.ENOSYS)
            self.remark = f"{folder}: this file system has no locks ({reason}): see that no other command writes there"
            return
        try:
            for left in folder.rglob(f"*{files.PART}"):  # by a command that was killed
                left.unlink(missing_ok=True)
            with files.whole(folder / HOLDER_FILE) as part:
                part.write_text(json.dumps(_me()), encoding="utf-8")
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let the next command in; the files go while they are still ours, and who waits for them makes new ones."""
        for name in (HOLDER_FILE, LOCK_FILE):
            with contextlib.suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)
        self._lock.release()


def names_in(folder: Path) -> set[str]:
    """Return what a folder holds besides what is there while a command writes, or after one was killed."""
    names = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    return {name for name in names if name not in (LOCK_FILE, HOLDER_FILE) and not name.endswith(files.PART)}


def refuse_busy(folder: Path) -> None:
    """Refuse a folder that another command is writing.

    Raises:
        LapsbenchError: there is one.
    """
    if busy := writer(folder):
        raise _busy(folder, busy)


def writer(folder: Path) -> str:
    """Say who is writing a folder; empty where nobody is, or nobody can tell."""
    if not (folder / LOCK_FILE).exists():
        return ""
    from filelock import FileLock, Timeout  # noqa: PLC0415 - as above

    lock = FileLock(folder / LOCK_FILE)
    try:
        _acquire(lock, 0)
    except Timeout:
        return _who(folder)
    except (OSError, NotImplementedError, UserWarning):
        return ""
    lock.release()
    return ""


def _acquire(lock: BaseFileLock, patience_s: float) -> None:
    with warnings.catch_warnings():
        # rather than its soft locks, which outlive their process
        warnings.filterwarnings("error", message="flock not supported")
        lock.acquire(timeout=patience_s)


def _busy(folder: Path, who: str) -> LapsbenchError:
    return LapsbenchError(
        f"is being written by {who}", where=str(folder), hint="again when it is done, or another --out"
    )


def _me() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": dt.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _who(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER_FILE).read_bytes())
        told = "process {pid} on {host} since {since}: {command}".format_map(holder)
    except (OSError, ValueError, TypeError, LookupError):
        return "another command"
    return told if len(told) <= 240 else f"{told[:237]}..."
