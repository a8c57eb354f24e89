"""The command line: parse, call, print. One file a verb; nothing heavy is imported until a command needs it."""

from lapsbench.cli.entry import app, main

__all__ = ["app", "main"]
