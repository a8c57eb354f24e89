"""A profile on a terminal and on a pipe: printed without rich."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios

import pytest
from commands import lapsbench, process

LINE = "profiles describe h100-llama3.1-8b-eagle3"


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    """Run a command line on a terminal of so many columns; return what it shows."""

    def show(line, columns, kind="xterm"):
        monkeypatch.setenv("TERM", kind)
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        process(line, tmp_path, stdout=theirs).fine()
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 2**16):
                shown += part
        except OSError:  # how a terminal ends
            pass
        os.close(ours)
        return shown.decode().replace("\r\n", "\n")

    return show


def test_a_terminal_shows_the_title_bold_and_in_lines_that_fit(terminal):
    title = terminal(LINE, 40).partition("\n\n")[0]
    assert title.startswith("\x1b[1mh100-llama3.1-8b-eagle3: ")
    assert max(len(re.sub(r"\x1b\[\dm", "", line)) for line in title.splitlines()) <= 40


def test_a_terminal_without_styles_and_a_pipe_get_none(terminal, tmp_path):
    assert "\x1b" not in terminal(LINE, 100, kind="dumb")
    assert "\x1b" not in lapsbench(LINE, tmp_path).fine().out
