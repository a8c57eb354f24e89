"""A user's file on its way: read here, written again where its functions are to run."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lapsbench.errors import LapsbenchError


@dataclass(frozen=True, slots=True)
class Source:
    """A Python file: its path as typed, and its text."""

    path: str
    text: bytes

    @classmethod
    def read(cls, path: str) -> Source:
        """Read it.

        Raises:
            LapsbenchError: it is gone.
        """
        try:
            return cls(path, Path(path).read_bytes())
        except OSError as error:
            reason = error.strerror or str(error)
            raise LapsbenchError(f"cannot be read again: {reason}", where=path, hint="leaving it there") from error

    def placed(self) -> Path:
        """Write it to a folder of this process, once, and return where it is."""
        folder = _folder() / hashlib.sha256(self.text).hexdigest()[:16]
        file = folder / Path(self.path).name
        if not file.exists():
            folder.mkdir(exist_ok=True)
            file.write_bytes(self.text)
        _as_typed()[str(file)] = self.path
        return file


def as_typed(text: str) -> str:
    """Return a text in which files are called what their user calls them."""
    for here, typed in _as_typed().items():
        text = text.replace(here, typed)
    return text


@cache
def _folder() -> Path:
    # nobody else's: what lies there is run
    made = tempfile.mkdtemp(prefix="lapsbench-files-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


@cache
def _as_typed() -> dict[str, str]:
    return {}
