"""The command line: parse, call, print. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lapsbench import __version__
from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from lapsbench.metrics.result import ReplayResult
    from lapsbench.profile.wanted import Wanted
    from lapsbench.replay import Replayer
    from lapsbench.scenario import Scenario

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect; 0 fine, 1 error, 2 usage, 3 a gate failed."""

HOW_TO_GO_ON = "interrupted; with --out, finished cells are kept and the same command goes on"

app = typer.Typer(
    name="lapsbench",
    help="Which request scheduler should I run with speculative decoding, on my GPU, for my traffic?",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lapsbench {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def lapsbench(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Compare request schedulers for speculative decoding."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _complete_policy(incomplete: str) -> list[str]:
    from lapsbench.policies.registry import names

    return [name for name in names() if name.startswith(incomplete)]


@app.command()
def replay(
    scenario: Annotated[
        Path | None,
        typer.Argument(metavar="[SCENARIO.toml]", help="Settings by the names of the flags; a flag beats the file."),
    ] = None,
    trace: Annotated[str | None, typer.Option(metavar="NAME|PATH", help="Arrivals: chat, code, or a file.")] = None,
    profile: Annotated[str | None, typer.Option(metavar="NAME|PATH", help="Step costs and acceptance.")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:key=value,...]", help="Repeatable; or FILE.py:FUNCTION.", autocompletion=_complete_policy
        ),
    ] = None,
    predict: Annotated[
        str | None, typer.Option(metavar="PREDICTOR", help="oracle | noisy:sigma=0.5 | classes | none | trace.")
    ] = None,
    load: Annotated[
        str | None, typer.Option(metavar="0.7,0.9", help="Offered rate over capacity; also FROM:TO:STEP.")
    ] = None,
    rate: Annotated[float | None, typer.Option(metavar="R", help="Offered rate in requests per second.")] = None,
    max_batch: Annotated[int | None, typer.Option(metavar="B", help="Places in the batch (64).")] = None,
    draft_tokens: Annotated[
        int | None, typer.Option(metavar="K", help="Drafted tokens a round (3); 0 decodes plainly.")
    ] = None,
    prefill_budget: Annotated[
        int | None, typer.Option(metavar="N", help="Prefill tokens a step (0: unlimited).")
    ] = None,
    kv_tokens: Annotated[int | None, typer.Option(metavar="N", help="KV memory in tokens (0: unlimited).")] = None,
    on_preempt: Annotated[
        str | None, typer.Option(metavar="keep|swap|recompute", help="What preemption does to KV (keep).")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Only the first N requests.")] = None,
    window: Annotated[str | None, typer.Option(metavar="FROM:TO", help="Only arrivals within these seconds.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="First seed (0).")] = None,
    repeats: Annotated[int | None, typer.Option(metavar="R", help="Seeds S .. S+R-1 (5).")] = None,
    slo: Annotated[
        str | None, typer.Option(metavar="ttft:500,tpot:50,e2el:30000", help="SLOs in ms, for goodput.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(metavar="POLICY", help="What ratios compare to (fcfs).")] = None,
    calibration: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Trace that calibrated policies learn from (the profile's prompts)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the run here; the same command resumes it.")
    ] = None,
    json_to: Annotated[
        str | None, typer.Option("--json", metavar="PATH|-", help="Write results as JSON; - for stdout.")
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, max=1024, help="Cells side by side.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no advice.")] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings as a scenario file and stop.")
    ] = False,
) -> None:
    """Replay arrivals on measured step costs under several schedulers, and print who was fastest.

    With no arguments: the shipped chat trace at load 0.9 on the shipped profile.
    """
    from lapsbench.scenario import as_toml, read

    flags = {
        "trace": trace,
        "profile": profile,
        "policies": tuple(policy) if policy else None,
        "predict": predict,
        "load": load,
        "rate": rate,
        "max_batch": max_batch,
        "draft_tokens": draft_tokens,
        "prefill_budget": prefill_budget,
        "kv_tokens": kv_tokens,
        "on_preempt": on_preempt,
        "limit": limit,
        "window": window,
        "seed": seed,
        "repeats": repeats,
        "slo": slo,
        "baseline": baseline,
        "calibration": calibration,
    }
    wanted = read(scenario, flags)
    if print_config:
        typer.echo(as_toml(wanted), nl=False)
        return
    _check_json(json_to)
    result, replayer = _run(wanted, out, jobs, quiet=quiet)
    _print(result, replayer, json_to, quiet=quiet)


@app.command()
def policies(
    name: Annotated[str | None, typer.Argument(help="One policy, in full.", autocompletion=_complete_policy)] = None,
) -> None:
    """List the schedulers, their parameters and sources."""
    from lapsbench.policies.registry import find, names
    from lapsbench.report.catalogue import describe, overview

    if not name:
        typer.echo(overview([find(each) for each in names()]), nl=False)
        return
    try:
        found = find(name)
    except UsageError as error:
        raise UsageError(error.what, where="policies", hint=error.hint) from error
    typer.echo(describe(found), nl=False)


@app.command()
def profile(
    target: Annotated[str, typer.Option(metavar="MODEL", help="Hub id, folder, .gguf, pypi:PACKAGE or arch:NAME.")],
    draft: Annotated[
        str, typer.Option(metavar="MODEL", help="As --target; or self:int4, self:drop=13-16, self:layers=0-3, ngram:4.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The profile's folder; the same command resumes it.")],
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSONL with prompt or turns, and category (60 of our own).")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="cuda|cpu", help="Where to measure (cuda if any).")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="float32|bfloat16|float16", help="Of weights and cache (bfloat16; on a CPU float32)."),
    ] = None,
    batches: Annotated[
        str | None, typer.Option(metavar="1,2,4", help="Batch sizes (1 .. 256 as memory allows; on a CPU to 8).")
    ] = None,
    contexts: Annotated[
        str | None, typer.Option(metavar="128,512", help="Cached tokens (128 .. 16384; on a CPU to 1024).")
    ] = None,
    draft_tokens: Annotated[
        int | None, typer.Option(metavar="K", help="Largest number of drafts a round (8; on a CPU 4).")
    ] = None,
    draft_tokens_max: Annotated[int, typer.Option(metavar="K", help="Recorded acceptance is cut there.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(metavar="N", help="Output tokens of a recording, at most.")] = 128,
    temperature: Annotated[float, typer.Option(metavar="T", help="0 decodes greedily.")] = 0.0,
    budget_s: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds for the costs: the most telling points first.")
    ] = None,
    costs_only: Annotated[bool, typer.Option("--costs-only", help="Record no acceptance.")] = False,
    eager: Annotated[bool, typer.Option("--eager", help="Without CUDA graphs, to compare.")] = False,
    seed: Annotated[int, typer.Option(metavar="S", help="Of random tokens, weights and sampling.")] = 0,
    threads: Annotated[int, typer.Option(metavar="N", help="Threads of a CPU.")] = 1,
    json_to: Annotated[
        str | None, typer.Option("--json", metavar="PATH|-", help="Write the summary as JSON; - for stdout.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print grid, memory and time; measure nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no remarks.")] = False,
) -> None:
    """Measure step costs and acceptance of a target and a draft on this machine; `replay --profile DIR` takes it."""
    import shlex

    from lapsbench.profile.wanted import Wanted

    wanted = Wanted(
        target=target,
        draft=draft,
        out=out,
        prompts=prompts,
        device=device,
        dtype=dtype,
        batches=batches,
        contexts=contexts,
        draft_tokens=draft_tokens,
        draft_tokens_max=draft_tokens_max,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        budget_s=budget_s,
        costs_only=costs_only,
        eager=eager,
        seed=seed,
        threads=threads,
        command=shlex.join(["lapsbench", *sys.argv[1:]]),
    )
    _check_json(json_to)
    _measure(wanted, json_to, dry_run=dry_run, quiet=quiet)


def _measure(wanted: Wanted, json_to: str | None, *, dry_run: bool, quiet: bool) -> None:
    """Run the profiler under a progress bar on stderr, and print what it found."""
    import importlib

    from rich.console import Console

    from lapsbench.profile.summary import summarize, to_json
    from lapsbench.report import profile_table

    try:
        run = importlib.import_module("lapsbench.profile.run")  # torch and transformers are an extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("lapsbench"):
            raise
        what = f"measuring takes {error.name}, which is not installed"
        raise LapsbenchError(what, where="profile", hint='pip install "lapsbench[profile]"') from error
    stdout, stderr = Console(highlight=False), Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    if dry_run:
        profile_table.render_plan(run.dry_run(wanted), stdout)
        return
    with _bar(quiet=quiet) as bar:
        task = bar.add_task("starting", total=None)
        profiler = run.Profiler(wanted, lambda text: bar.update(task, description=text))
        found = profiler.run(lambda done, total, text: bar.update(task, completed=done, total=total, description=text))
    summary = summarize(found)
    failed = _write_json(to_json(summary), json_to) if json_to else None
    if json_to != "-":
        profile_table.render(summary, stdout)
    for line in profiler.remarks:
        stderr.print(line)
    if failed:
        raise failed


def main() -> None:
    """Run the command line; every foreseen failure is one line on stderr and an exit code."""
    _prepare_stdout()
    try:
        code = app(standalone_mode=False)
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
    except Exception as error:
        if not hasattr(error, "format_message"):  # not typer's own: a defect, and worth a traceback
            raise
        code = _fail(f"{error.format_message().rstrip('. ')}; try --help", UsageError.exit_code)
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


def _check_json(target: str | None) -> None:
    """Try the JSON target before the work, so that a bad path fails early; what it holds stays until there is more."""
    if target is None or target == "-":
        return
    if not target.strip():
        raise UsageError("is empty", where="--json", hint="a file, or - for stdout")
    path = Path(target)
    try:
        if path.is_fifo() or path.is_char_device():
            return  # opening it twice would tell the reader that this was all
        there = path.exists()
        path.open("a").close()
        if not there:
            path.unlink()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        what = f"cannot write: {reason}"
        raise LapsbenchError(what, where=f"--json {target}", hint="a file in a folder that exists") from error


def _run(wanted: Scenario, out: Path | None, jobs: int, *, quiet: bool) -> tuple[ReplayResult, Replayer]:
    """Run the replay under a progress bar on stderr; silent when stderr is not a terminal."""
    with _bar(quiet=quiet) as bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="joblib")  # after Ctrl-C, of cells that were under way
        task = bar.add_task("starting", total=None)

        def say(text: str) -> None:
            bar.update(task, description=text)

        say("reading")
        from lapsbench.replay import Replayer

        replayer = Replayer(wanted, out, say)
        bar.update(task, description=f"replaying {len(replayer.plan.cells)} cells", total=replayer.requests)
        return replayer.run(jobs, lambda left: bar.advance(task, left)), replayer


def _bar(*, quiet: bool) -> Progress:
    """Return a progress bar on stderr, hidden where stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)


def _print(result: ReplayResult, replayer: Replayer, json_to: str | None, *, quiet: bool) -> None:
    from rich.console import Console

    from lapsbench.metrics.result import to_json
    from lapsbench.report.table import render

    stderr = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    failed = _write_json(to_json(result), json_to) if json_to else None
    if json_to != "-":
        render(result, Console(highlight=False), advice=stderr)
    for line in replayer.remarks:
        stderr.print(line)
    if failed:  # only now: the table is worth having all the same
        raise failed


def _write_json(content: dict[str, Any], target: str) -> LapsbenchError | None:
    """Write what `--json` asks for; return what went wrong with a file."""
    import json

    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return None
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        return LapsbenchError(what, where=f"--json {target}", hint="more room on the disk, or another place")
    return None
