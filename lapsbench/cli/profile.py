"""`lapsbench profile`."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lapsbench.cli.console import check_target, plain_bar, remark, write_json
from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lapsbench.profile.wanted import Wanted
    from lapsbench.vllm.wanted import Wanted as VllmWanted

ENGINES = ("torch", "vllm")


def profile(
    target: Annotated[str, typer.Option(metavar="MODEL", help="Hub id, folder, .gguf, pypi:PACKAGE or arch:NAME.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The profile's folder; the same command resumes it.")],
    draft: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="As --target; or self:int4, self:drop=13-16, self:layers=0-3, ngram:4. vllm: also eagle:MODEL, none.",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="torch|vllm", help="Whose steps: our decoder's, or vLLM's own, in this process.")
    ] = "torch",
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSONL with prompt or turns, and category (60 of our own).")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="cuda|cpu", help="Where to measure (cuda if any).")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="float32|bfloat16|float16", help="Of weights and cache (bfloat16; on a CPU float32)."),
    ] = None,
    batches: Annotated[
        str | None,
        typer.Option(metavar="1,2,4", help="Batch sizes (1 .. 256 as memory allows; on a CPU 1, 2, 3, 4, 6, 8)."),
    ] = None,
    contexts: Annotated[
        str | None, typer.Option(metavar="128,512", help="Cached tokens (128 .. 16384; on a CPU to 1024).")
    ] = None,
    draft_tokens: Annotated[
        int | None, typer.Option(metavar="K", help="Largest number of drafts a round (8; on a CPU 4).")
    ] = None,
    draft_tokens_max: Annotated[
        int | None, typer.Option(metavar="K", help="Recorded acceptance is cut there (8).")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(metavar="N", help="Output tokens of a recording, at most.")] = 128,
    temperature: Annotated[float | None, typer.Option(metavar="T", help="0, as without it, decodes greedily.")] = None,
    budget_s: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds for the costs: the most telling points first.")
    ] = None,
    costs_only: Annotated[bool, typer.Option("--costs-only", help="Record no acceptance.")] = False,
    eager: Annotated[bool | None, typer.Option("--eager", help="Without CUDA graphs, to compare.")] = None,
    mixed: Annotated[
        bool | None,
        typer.Option("--mixed/--no-mixed", help="Measure rounds and chunks in one pass too (on a CPU yes, else no)."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Of random tokens, weights and sampling.")] = 0,
    batched_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="vllm: max_num_batched_tokens (2048).")
    ] = None,
    block_tokens: Annotated[int | None, typer.Option(metavar="N", help="vllm: block_size (32).")] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Threads of a CPU (1).")] = None,
    json_to: Annotated[
        str | None, typer.Option("--json", metavar="PATH|-", help="Write the summary as JSON; - for stdout.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print grid, memory and time; measure nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no remarks.")] = False,
) -> None:
    """Measure step costs and acceptance of a target and a draft on this machine; `replay --profile DIR` takes it."""
    from lapsbench.profile.wanted import Wanted
    from lapsbench.vllm.wanted import Wanted as VllmWanted

    check_target(json_to)
    command = shlex.join(["lapsbench", *sys.argv[1:]])
    ours = {"--device": device, "--temperature": temperature, "--budget-s": budget_s, "--eager": eager}
    ours |= {"--mixed": mixed}
    ours |= {"--draft-tokens-max": draft_tokens_max, "--threads": threads}
    theirs = {"--batched-tokens": batched_tokens, "--block-tokens": block_tokens}
    if engine not in ENGINES:
        raise UsageError(f"{engine!r} is not known", where="--engine", hint=" or ".join(ENGINES))
    if engine == "vllm":
        _refuse(ours, "torch")
        chosen: dict[str, Any] = {"draft": draft, "dtype": dtype, "batches": batches, "contexts": contexts}
        chosen |= {"draft_tokens": draft_tokens, "batched_tokens": batched_tokens, "block_tokens": block_tokens}
        known = {name: value for name, value in chosen.items() if value is not None}
        more: dict[str, Any] = {
            "prompts": prompts,
            "max_new_tokens": max_new_tokens,
            "costs_only": costs_only,
            "seed": seed,
        }
        _measure_vllm(VllmWanted(target, out, command=command, **known, **more), json_to, dry_run=dry_run, quiet=quiet)
        return
    _refuse(theirs, "vllm")
    if draft is None:
        raise UsageError("is missing", where="--draft", hint="a smaller model, self:int4 or ngram:4")
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
        draft_tokens_max=8 if draft_tokens_max is None else draft_tokens_max,
        max_new_tokens=max_new_tokens,
        temperature=temperature or 0.0,
        budget_s=budget_s,
        costs_only=costs_only,
        eager=bool(eager),
        mixed=mixed,
        seed=seed,
        threads=1 if threads is None else threads,
        command=command,
    )
    _measure(wanted, json_to, dry_run=dry_run, quiet=quiet)


def _measure(wanted: Wanted, json_to: str | None, *, dry_run: bool, quiet: bool) -> None:
    """Measure our own decoder."""
    from lapsbench.report import profile_table
    from lapsbench.report.screen import Screen

    try:
        run = importlib.import_module("lapsbench.profile.run")  # torch and transformers are an extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("lapsbench"):
            raise
        what = f"measuring takes {error.name}, which is not installed"
        raise LapsbenchError(what, where="profile", hint=_what_to_install(error.name)) from error
    if dry_run:
        profile_table.render_plan(run.dry_run(wanted), Screen(sys.stdout))
        return
    _show(run.Profiler, wanted, json_to, quiet=quiet)


def _refuse(flags: Mapping[str, object], engine: str) -> None:
    """Refuse flags of the other engine."""
    for flag, value in flags.items():
        if value is not None:
            raise UsageError(f"belongs to --engine {engine}", where=flag, hint=f"--engine {engine}, or leaving it out")


def _measure_vllm(wanted: VllmWanted, json_to: str | None, *, dry_run: bool, quiet: bool) -> None:
    """Measure vLLM's own steps."""
    from lapsbench.vllm.wanted import plan

    if dry_run:
        typer.echo("\n".join(plan(wanted)))
        return
    _show(importlib.import_module("lapsbench.vllm.profiling").Profiler, wanted, json_to, quiet=quiet)


def _show(make: Callable[..., Any], wanted: object, json_to: str | None, *, quiet: bool) -> None:
    """Run a profiler under a progress bar on stderr, and print what it found."""
    from lapsbench.profile.speedup import summarize, to_json
    from lapsbench.report import profile_table
    from lapsbench.report.screen import Screen
    from lapsbench.store.suspicions import STEEP, falls

    with plain_bar(quiet=quiet) as show, closing(make(wanted, lambda text: show(0, 1, text))) as profiler:
        found = profiler.run(show)
    summary = summarize(found)
    failed = write_json(to_json(summary), json_to) if json_to else None
    if json_to != "-":
        profile_table.render(summary, Screen(sys.stdout))
    remark([*profiler.remarks, *(f"{line}: measure again" for line in falls(found.costs, STEEP))], quiet=quiet)
    if failed:
        raise failed


def _what_to_install(missing: str) -> str:
    """Return the command that installs the extra's packages by name, as no index need have this one."""
    import importlib.metadata

    try:
        wanted = importlib.metadata.requires("lapsbench") or []
    except importlib.metadata.PackageNotFoundError:
        wanted = []
    packages = [need.partition(";")[0].strip() for need in wanted if re.search(r"extra == ['\"]profile['\"]", need)]
    return shlex.join(["pip", "install", *(packages or [missing])])
