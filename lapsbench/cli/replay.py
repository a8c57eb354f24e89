"""`lapsbench replay`."""

from __future__ import annotations

import sys
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapsbench.cli.console import check_target, complete_policy, progress_bar, remark, write_json

if TYPE_CHECKING:
    from lapsbench.metrics.result import ReplayResult
    from lapsbench.replay import Replayer
    from lapsbench.scenario import Scenario

COMPILING = "compiling the simulator, once: about a minute"


def replay(
    scenario: Annotated[
        Path | None,
        typer.Argument(metavar="[SCENARIO.toml]", help="Settings by the names of the flags; a flag beats the file."),
    ] = None,
    trace: Annotated[
        str | None, typer.Option(metavar="NAME|PATH|-", help="Arrivals: chat, code, a file, - for stdin.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="arrival=ts,prompt=in,output=out", help="Which columns of one's own trace hold what."),
    ] = None,
    time_unit: Annotated[
        str | None, typer.Option(metavar="s|ms|us|ns|min|h", help="Of the arrivals, instead of the format's.")
    ] = None,
    failed: Annotated[
        str | None, typer.Option(metavar="drop|keep", help="Requests without output; kept, they ask for one token.")
    ] = None,
    profile: Annotated[str | None, typer.Option(metavar="NAME|PATH", help="Step costs and acceptance.")] = None,
    acceptance: Annotated[
        str | None,
        typer.Option(metavar="synthetic:mean=2.5,...|PATH", help="Acceptance instead of the profile's."),
    ] = None,
    acceptance_length: Annotated[
        float | None, typer.Option(metavar="TOKENS", help="Mean tokens a round, where that is all one knows.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:key=value,...]", help="Repeatable; or FILE.py:FUNCTION.", autocompletion=complete_policy
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
        str | None,
        typer.Option(
            metavar="K|SCHEDULE",
            help="Drafted tokens a round (3); 0 decodes plainly. By batch: 1-8:7,9-:3; vLLM's own: vllm:FILE.",
        ),
    ] = None,
    drafts: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:key=value,...]",
            help="Who says how many, step by step: fixed, by-batch, goodput, ...; or FILE.py:FUNCTION.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(metavar="ideal|vllm|vllm-native", help="Whose rules (vllm); native: the installed vLLM's own."),
    ] = None,
    kv_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="KV memory in tokens (the profile's); 0: unlimited.")
    ] = None,
    on_preempt: Annotated[
        str | None,
        typer.Option(metavar="keep|swap|recompute", help="What preemption does to KV (recompute; ideal: keep)."),
    ] = None,
    prefill_budget: Annotated[
        int | None, typer.Option(metavar="N", help="ideal: prefill tokens a step (0: unlimited).")
    ] = None,
    batched_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="vllm: tokens a step, decoding and prefill together (8192).")
    ] = None,
    block_tokens: Annotated[int | None, typer.Option(metavar="N", help="vllm: tokens a KV block (16).")] = None,
    prefix_cache: Annotated[
        str | None, typer.Option(metavar="on|off", help="vllm: find blocks of a preempted request again (on).")
    ] = None,
    scheduling: Annotated[
        str | None, typer.Option(metavar="sync|async", help="vllm: compose a step while the last one runs (sync).")
    ] = None,
    draft_method: Annotated[
        str | None, typer.Option(metavar="ngram|draft_model|eagle", help="vllm: who drafts (the profile's).")
    ] = None,
    max_model_len: Annotated[
        int | None, typer.Option(metavar="N", help="vllm: longest prompt and output; more is rejected.")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Only the first N requests.")] = None,
    window: Annotated[str | None, typer.Option(metavar="FROM:TO", help="Only arrivals within these seconds.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="First seed (0).")] = None,
    repeats: Annotated[int | None, typer.Option(metavar="R", help="Seeds S .. S+R-1 (5).")] = None,
    slo: Annotated[
        str | None, typer.Option(metavar="ttft:500,tpot:50,e2el:30000", help="SLOs in ms, for goodput.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(metavar="POLICY", help="What ratios compare to (fcfs).")] = None,
    tail: Annotated[
        float | None, typer.Option(metavar="X", help="Times today's p99 that the verdict bears (1.3).")
    ] = None,
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
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Small defaults: seconds, for CI; other flags still count.")
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings as a scenario file and stop.")
    ] = False,
) -> None:
    """Replay arrivals on measured step costs under several schedulers, and print who was fastest.

    With no arguments: the shipped chat trace at load 0.9 on the shipped profile, by the rules of vLLM's scheduler.
    """
    from lapsbench.scenario import as_toml, read

    flags = {
        "trace": trace,
        "columns": columns,
        "time_unit": time_unit,
        "failed": failed,
        "profile": profile,
        "acceptance": acceptance,
        "acceptance_length": acceptance_length,
        "policies": tuple(policy) if policy else None,
        "predict": predict,
        "load": load,
        "rate": rate,
        "max_batch": max_batch,
        "draft_tokens": draft_tokens,
        "drafts": drafts,
        "engine": engine,
        "kv_tokens": kv_tokens,
        "on_preempt": on_preempt,
        "prefill_budget": prefill_budget,
        "batched_tokens": batched_tokens,
        "block_tokens": block_tokens,
        "prefix_cache": prefix_cache,
        "scheduling": scheduling,
        "draft_method": draft_method,
        "max_model_len": max_model_len,
        "limit": limit,
        "window": window,
        "seed": seed,
        "repeats": repeats,
        "slo": slo,
        "baseline": baseline,
        "tail": tail,
        "calibration": calibration,
    }
    wanted = read(scenario, flags, smoke=smoke)
    if print_config:
        from lapsbench.planning import settled

        typer.echo(as_toml(settled(wanted)), nl=False)
        return
    check_target(json_to)
    result, replayer = _run(wanted, out, jobs, quiet=quiet, smoke=smoke)
    _print(result, replayer, json_to, quiet=quiet)


def _run(wanted: Scenario, out: Path | None, jobs: int, *, quiet: bool, smoke: bool) -> tuple[ReplayResult, Replayer]:
    """Run the replay under a progress bar on stderr; where that is not a terminal, say no more than what takes long."""
    with progress_bar(quiet=quiet) as bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="joblib")  # after Ctrl-C, of cells that were under way
        task = bar.add_task("starting", total=None)

        def say(text: str) -> None:
            bar.update(task, description=text)

        def tell() -> None:
            say(COMPILING)
            remark([COMPILING], quiet=quiet or bar.console.is_terminal)

        say("reading")
        from lapsbench.replay import Replayer
        from lapsbench.sim.compiling import told_of_compiling

        with told_of_compiling(tell), closing(Replayer(wanted, out, say)) as replayer:
            bar.update(task, description=f"replaying {len(replayer.plan.cells)} cells", total=replayer.requests)
            patience = not (quiet or smoke or wanted.engine == "vllm-native")  # its own Scheduler is slow
            return replayer.run(jobs, lambda left: bar.advance(task, left), patience=patience), replayer


def _print(result: ReplayResult, replayer: Replayer, json_to: str | None, *, quiet: bool) -> None:
    from rich.console import Console

    from lapsbench.metrics.result import to_json
    from lapsbench.report.table import render

    stderr = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    failed = write_json(to_json(result), json_to) if json_to else None
    if json_to != "-":
        render(result, Console(highlight=False), advice=stderr)
    if not sys.stdout.isatty():  # at a terminal they stand under the table
        for line in result.notes:
            stderr.print(f"note: {line}")
    for line in replayer.remarks:
        stderr.print(line)
    if failed:  # only now: the table is worth having all the same
        raise failed
