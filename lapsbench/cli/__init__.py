"""The command line: parse, call, print. One file a verb; nothing heavy is imported until a command needs it."""

from __future__ import annotations

from lapsbench.cli import interrupt


def main() -> None:
    """Run the command line; from here on Ctrl-C is one line, even while the command itself is being imported."""
    try:
        interrupt.listen()
        from lapsbench.cli.entry import run

        run()
    except KeyboardInterrupt:
        interrupt.leave()
