"""The flags that `replay` and `execute` share, each once: type, form and help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lapsbench.cli.console import complete_policy

if TYPE_CHECKING:
    from collections.abc import Mapping

ScenarioFile = Annotated[
    Path | None,
    typer.Argument(metavar="[SCENARIO.toml]", help="Settings by the names of the flags; a flag beats the file."),
]
Trace = Annotated[str | None, typer.Option(metavar="NAME|PATH|-", help="Arrivals: chat, code, a file, - for stdin.")]
Columns = Annotated[
    str | None,
    typer.Option(metavar="arrival=ts,prompt=in,output=out", help="Which columns of one's own trace hold what."),
]
TimeUnit = Annotated[
    str | None, typer.Option(metavar="s|ms|us|ns|min|h", help="Of the arrivals, instead of the format's.")
]
Failed = Annotated[
    str | None, typer.Option(metavar="drop|keep", help="Requests without output; kept, they ask for one token.")
]
Profile = Annotated[str | None, typer.Option(metavar="NAME|PATH", help="Step costs and acceptance.")]
Acceptance = Annotated[
    str | None,
    typer.Option(metavar="synthetic:mean=2.5,...|PATH", help="Acceptance instead of the profile's."),
]
AcceptanceLength = Annotated[
    float | None, typer.Option(metavar="TOKENS", help="Mean tokens a round, where that is all one knows.")
]
Policy = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[:key=value,...]", help="Repeatable; or FILE.py:FUNCTION.", autocompletion=complete_policy
    ),
]
Predict = Annotated[
    str | None, typer.Option(metavar="PREDICTOR", help="oracle | noisy:sigma=0.5 | classes | none | trace.")
]
Load = Annotated[str | None, typer.Option(metavar="0.7,0.9", help="Offered rate over capacity; also FROM:TO:STEP.")]
Rate = Annotated[float | None, typer.Option(metavar="R", help="Offered rate in requests per second.")]
MaxBatch = Annotated[int | None, typer.Option(metavar="B", help="Places in the batch (64).")]
DraftTokens = Annotated[
    str | None,
    typer.Option(
        metavar="K|SCHEDULE",
        help="Drafted tokens a round (3); 0 decodes plainly. By batch: 1-8:7,9-:3; vLLM's own: vllm:FILE.",
    ),
]
Drafts = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:key=value,...]",
        help="Who says how many, step by step: fixed, by-batch, goodput, ...; or FILE.py:FUNCTION.",
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(metavar="ideal|vllm|vllm-native", help="Whose rules (vllm); native: the installed vLLM's own."),
]
KvTokens = Annotated[int | None, typer.Option(metavar="N", help="KV memory in tokens (the profile's); 0: unlimited.")]
OnPreempt = Annotated[
    str | None,
    typer.Option(metavar="keep|swap|recompute", help="What preemption does to KV (recompute; ideal: keep)."),
]
PrefillBudget = Annotated[int | None, typer.Option(metavar="N", help="ideal: prefill tokens a step (0: unlimited).")]
BatchedTokens = Annotated[
    int | None, typer.Option(metavar="N", help="vllm: tokens a step, decoding and prefill together (8192).")
]
BlockTokens = Annotated[int | None, typer.Option(metavar="N", help="vllm: tokens a KV block (16).")]
PrefixCache = Annotated[
    str | None, typer.Option(metavar="on|off", help="vllm: find blocks of a preempted request again (on).")
]
Scheduling = Annotated[
    str | None, typer.Option(metavar="sync|async", help="vllm: compose a step while the last one runs (sync).")
]
DraftMethod = Annotated[
    str | None, typer.Option(metavar="ngram|draft_model|eagle", help="vllm: who drafts (the profile's).")
]
MaxModelLen = Annotated[
    int | None, typer.Option(metavar="N", help="vllm: longest prompt and output; more is rejected.")
]
Limit = Annotated[int | None, typer.Option(metavar="N", help="Only the first N requests.")]
Window = Annotated[str | None, typer.Option(metavar="FROM:TO", help="Only arrivals within these seconds.")]
Seed = Annotated[int | None, typer.Option(metavar="S", help="First seed (0).")]
Repeats = Annotated[int | None, typer.Option(metavar="R", help="Seeds S .. S+R-1 (5).")]
Slo = Annotated[str | None, typer.Option(metavar="ttft:500,tpot:50,e2el:30000", help="SLOs in ms, for goodput.")]
Baseline = Annotated[str | None, typer.Option(metavar="POLICY", help="What ratios compare to (fcfs).")]
Tail = Annotated[float | None, typer.Option(metavar="X", help="Times today's p99 that the verdict bears (1.3).")]
Calibration = Annotated[
    str | None,
    typer.Option(metavar="NAME|PATH", help="Trace that calibrated policies learn from (the profile's prompts)."),
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the run here; the same command resumes it.")]
JsonTo = Annotated[str | None, typer.Option("--json", metavar="PATH|-", help="Write results as JSON; - for stdout.")]
Jobs = Annotated[int | None, typer.Option(metavar="N", min=1, max=1024, help="Cells side by side (1).")]
On = Annotated[
    str | None,
    typer.Option(metavar="dask://HOST:PORT|ray://HOST:PORT|local:N", help="Replay the cells there: docs/cluster.md."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no advice.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="Small defaults: seconds, for CI; other flags still count.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the settings as a scenario file and stop.")]


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a command's arguments that are settings of a scenario, by their names there."""
    from lapsbench.scenario import Scenario

    policies = tuple(given["policy"]) if given["policy"] else None
    return {"policies": policies} | {name: given[name] for name in Scenario.model_fields if name in given}


def where(on: str | None, jobs: int | None, engine: str) -> str | None:
    """Return where cells are replayed; None: in this process.

    Raises:
        UsageError: it is no place, or not for these settings.
    """
    if on is None:
        return None
    from lapsbench.errors import UsageError
    from lapsbench.machines import checked

    if jobs is not None:
        raise UsageError("exclude each other", where="--on and --jobs", hint="one of the two")
    if engine == "vllm-native":
        raise UsageError("does not take the engine vllm-native", where="--on", hint="--engine vllm, or --jobs N")
    checked(on)
    return on
