"""What can go wrong, as one family: every error says what, where, and what to try."""

from __future__ import annotations


class LapsbenchError(Exception):
    """An error a user can mend; printed as one line, never as a traceback.

    Args:
        what: what was wrong.
        where: the file, row, column or flag it was found at.
        hint: what to try; completes "try ...".
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        text = f"{text}; try {self.hint}" if self.hint else text
        return " ".join(text.split())

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way back from a worker process."""
        return _rebuild, (type(self), self.what, self.where, self.hint)


class UsageError(LapsbenchError):
    """The command line, or a scenario file, asks for something that does not exist."""

    exit_code = 2


class GateError(LapsbenchError):
    """A gate the user set has failed."""

    exit_code = 3


def _rebuild(kind: type[LapsbenchError], what: str, where: str, hint: str) -> LapsbenchError:
    return kind(what, where=where, hint=hint)
