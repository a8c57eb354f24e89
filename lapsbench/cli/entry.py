"""The application and its verbs; every foreseen failure is one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from lapsbench import __version__
from lapsbench.cli.interrupt import HOW_TO_GO_ON, INTERRUPTED, finish
from lapsbench.errors import LapsbenchError, UsageError

VERBS = ("replay", "report", "compare", "tune", "execute", "validate", "profile", "policies")  # in the order of --help
NOUNS = ("traces", "profiles")


def application(wanted: str | None = None) -> typer.Typer:
    """Return the command line; where a verb or noun is known to be wanted, with no other: all take 40 ms to lay out."""
    app = typer.Typer(
        name="lapsbench",
        help="Which request scheduler should I run with speculative decoding, on my GPU, for my traffic?",
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback(invoke_without_command=True)(lapsbench)
    for name in [wanted] if wanted in VERBS + NOUNS else VERBS + NOUNS:
        found = getattr(import_module(f"lapsbench.cli.{name}"), str(name))
        if isinstance(found, typer.Typer):
            app.add_typer(found)
        else:
            app.command()(found)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lapsbench {__version__}")
        raise typer.Exit


def lapsbench(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Compare request schedulers for speculative decoding."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run() -> None:
    """Run the command line; every foreseen failure is one line on stderr and an exit code."""
    _prepare_stdout()
    try:
        code = application(*sys.argv[1:2])(standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer has caught the Ctrl-C
            code = _fail(HOW_TO_GO_ON, INTERRUPTED)
    except LapsbenchError as error:
        code = _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = _fail(HOW_TO_GO_ON, INTERRUPTED)
    except BrokenPipeError:
        _drop_stdout()  # the reader left; so do we
        code = 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else "cannot write the output: "
        code = _fail(f"{where}{error.strerror or error}; try another place, or more room on the disk", 1)
        _drop_stdout()
    except MemoryError:
        code = _fail("out of memory; try --limit N, or fewer --jobs", 1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("lapsbench"):
            raise
        code = _fail(f"this command takes {error.name}, which is not installed; try pip install lapsbench", 1)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not typer's own: a defect, and worth a traceback
            raise
        code = _fail(f"{error.format_message().rstrip('. ')}; try --help", UsageError.exit_code)
    finish(code)
    sys.exit(code)


def _prepare_stdout() -> None:
    """See to it that every name can be printed, and that there is something to print to."""
    if sys.stdout is None:  # closed by the shell: `>&-`
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_stdout() -> None:
    """Leave nothing that the interpreter would fail to write once more on its way out."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)  # noqa: T201 - the command line prints
    return code
