"""What an unfinished profile has on disk: a journal, one line per finished part, and at the end the profile itself.

The journal's first line is the identity of what is measured. Lines are only ever appended, and each is on disk before
the next part begins; a line that was cut off is dropped. Knows files; knows nothing of what the parts mean.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from lapsbench import files
from lapsbench.errors import LapsbenchError
from lapsbench.store.lock import FolderLock, names_in, refuse_busy
from lapsbench.store.profile import ACCEPTANCE_FILE, COST_FILE, Repeats, open_profile, write_profile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lapsbench.core import Profile

JOURNAL = "journal.jsonl"
IDENTITY = "identity"
"""The kind of the first line, and where the provenance of the whole keeps it."""


class Parts:
    """The folder of one profile, open for writing by one command at a time until `close`.

    Args:
        folder: where the profile will be.
        identity: what everything in it depends on; JSON-able.

    Raises:
        LapsbenchError: the folder cannot be written, holds something else, parts of another identity, or another
            command writes there.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))
        self.lines: list[dict[str, Any]] = []
        self.remark = ""
        with ExitStack() as held:
            if not (folder / COST_FILE).exists():
                self._begin(held)
            self.complete = (folder / COST_FILE).exists()  # it may be by now: who held the folder is done
            if self.complete:
                self._check(_identity_of(folder), "a profile")
                shutil.rmtree(folder / "parts", ignore_errors=True)
            else:
                self._read()
            self.close = held.pop_all().close

    def _begin(self, held: ExitStack) -> None:
        """Make the folder, and keep others out of it."""
        try:
            refuse_foreign(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise _cannot(error, self.folder) from error
        lock = FolderLock(self.folder)
        held.callback(lock.release)
        self.remark = lock.remark

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the finished parts of one kind, in the order they were kept."""
        return [line for line in self.lines if line["kind"] == kind]

    def fact(self, name: str) -> Any:
        """Return what was kept under this name last, or None."""
        found = [line["value"] for line in self.of("fact") if line["name"] == name]
        return found[-1] if found else None

    def keep_fact(self, name: str, value: Any) -> Any:
        """Return a fact, finding it out (if it is a function) and keeping it the first time."""
        if self.fact(name) is None:
            self.keep("fact", name=name, value=value() if callable(value) else value)
        return self.fact(name)

    def keep(self, kind: str, **record: Any) -> None:
        """Put a finished part on disk."""
        line = {"kind": kind, **record}
        try:
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise files.cannot_write(error, str(self._journal)) from error
        self.lines.append(line)

    def finish(self, profile: Profile, repeats: Repeats) -> None:
        """Write the profile and let the parts go. The cost table comes last: without it there is no profile."""
        write_profile(self.folder, profile, repeats)
        shutil.rmtree(self.folder / "parts", ignore_errors=True)
        self.complete = True

    @property
    def _journal(self) -> Path:
        return self.folder / "parts" / JOURNAL

    def _read(self) -> None:
        try:
            self._journal.parent.mkdir(exist_ok=True)
            self._read_journal()
        except OSError as error:
            raise _cannot(error, self.folder) from error

    def _read_journal(self) -> None:
        whole: list[dict[str, Any]] = []
        good = 0
        for text in self._journal.read_bytes().splitlines(keepends=True) if self._journal.exists() else []:
            if not text.endswith(b"\n"):
                break
            whole.append(_line(text, self._journal, len(whole) + 1))
            good += len(text)
        if not whole:
            self._journal.unlink(missing_ok=True)
            self.keep(IDENTITY, value=self.identity)
            return
        os.truncate(self._journal, good)
        self._check(whole[0].get("value", {}), "parts of a profile")
        self.lines = whole

    def _check(self, there: Mapping[str, Any], what: str) -> None:
        """Refuse to mix what was measured under different conditions."""
        names = [name for name in self.identity if there.get(name) != self.identity[name]]
        if not names:
            return
        shown = "; ".join(
            f"{name} is {_short(self.identity[name])}, not {_short(there.get(name))}" for name in names[:3]
        )
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise LapsbenchError(
            f"holds {what} that differs from what is asked for: {shown}{more}",
            where=str(self.folder),
            hint="another --out, or the same settings as before",
        )


def _line(text: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        line = json.loads(text)
        if "kind" in line and (number > 1) == (line["kind"] != IDENTITY):
            return dict(line)
    except (ValueError, TypeError, RecursionError):
        pass
    raise LapsbenchError(f"line {number} is damaged", where=str(path), hint="removing the folder and starting again")


def _identity_of(folder: Path) -> Mapping[str, Any]:
    found = open_profile(f"{folder}{os.sep}").provenance.get(IDENTITY)
    return found if isinstance(found, dict) else {}


def refuse_foreign(folder: Path) -> None:
    """Leave alone what is neither a profile nor the beginning of one.

    Raises:
        LapsbenchError: the folder holds something else, another command writes there, or it cannot be read.
    """
    try:
        there = names_in(folder)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _cannot(error, folder) from error
    begun = "parts" in there and there <= {"parts", ACCEPTANCE_FILE}
    if there and not begun and COST_FILE not in there:
        raise LapsbenchError("holds files, but no profile", where=str(folder), hint="a new or empty --out folder")
    refuse_busy(folder)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _cannot(error: Exception, folder: Path) -> LapsbenchError:
    reason = getattr(error, "strerror", None) or error
    return LapsbenchError(f"cannot make the folder: {reason}", where=str(folder), hint="another --out")
