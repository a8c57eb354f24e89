"""Where lines are printed: a terminal, or a pipe; with nothing but what Python has.

The profiler runs on machines that have little more than torch. Tables of a replay are printed by rich (`table`).
"""

from __future__ import annotations

import os
import shutil
import textwrap
from typing import Literal, TextIO

Style = Literal["", "bold", "dim"]

PIPE_WIDTH = 100
"""A pipe has no width, and its text must not depend on whose terminal it was."""
WIDEST = 120
CODES = {"bold": "\x1b[1m", "dim": "\x1b[2m"}
PLAIN = "\x1b[0m"


class Screen:
    """A stream to print lines on.

    Attributes:
        terminal: somebody looks at it.
        unicode: it shows more than ASCII.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.terminal = stream.isatty()
        self.unicode = (stream.encoding or "ascii").lower().startswith("utf")
        self._styles = self.terminal and os.environ.get("TERM") not in ("dumb", "unknown")

    def say(self, text: str = "", style: Style = "") -> None:
        """Print a paragraph, in lines that fit."""
        width = min(shutil.get_terminal_size().columns, WIDEST) if self.terminal else PIPE_WIDTH
        for line in textwrap.wrap(text, width, break_on_hyphens=False) or [""]:
            self.line(self.styled(line, style))

    def line(self, text: str) -> None:
        """Print a line as it is."""
        self.stream.write(f"{text}\n")

    def styled(self, text: str, style: Style) -> str:
        """Return the text in a style, where there are any."""
        return f"{CODES[style]}{text}{PLAIN}" if self._styles and style and text else text
