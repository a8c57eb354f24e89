"""`lapsbench profiles`: list, describe, import, from-linear."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lapsbench.cli.console import check_target, laid_out, remark, show, write_json
from lapsbench.errors import UsageError

if TYPE_CHECKING:
    from lapsbench.core import Profile
    from lapsbench.store.linear import Linear

profiles = typer.Typer(name="profiles", help="List, describe and put together profiles.", no_args_is_help=True)

_JSON = typer.Option("--json", metavar="PATH|-", help="Write it as JSON; - for stdout.")
_OUT = typer.Option(metavar="DIR", help="The new profile's folder.")
_QUIET = typer.Option("--quiet", "-q", help="No remarks.")


@profiles.command(name="list")
def list_profiles(json_to: Annotated[str | None, _JSON] = None) -> None:
    """List the shipped profiles."""
    from lapsbench import resources
    from lapsbench.store.profile import open_profile

    check_target(json_to)
    found = [_line(open_profile(name)) for name in resources.names("profiles")]
    told = [{name: value for name, value in line.items() if name != "device"} for line in found]  # the label has it
    show({"schema": "lapsbench.profiles/1", "profiles": found}, json_to, laid_out(told))


def _line(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "points": len(profile.costs.time_s),
        "recordings": len(profile.bank) if profile.bank else 0,
        "draft_tokens_max": profile.bank.draft_tokens_max if profile.bank else None,
        "device": profile.provenance.get("device"),
        "label": profile.label,
    }


@profiles.command()
def describe(
    source: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A shipped profile, or a folder.")],
    json_to: Annotated[str | None, _JSON] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="lapsbench|vllm", help="Only the best drafts by batch: for --draft-tokens, or as vLLM's JSON."
        ),
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(metavar="B", min=1, max=4096, help="Of the schedule (the largest measured).")
    ] = None,
) -> None:
    """Show a profile: grid, device, step times, acceptance by category, and what to be wary of."""
    if schedule is not None:
        typer.echo(_schedule(source, schedule, max_batch))
        return
    from lapsbench.profile.speedup import summarize, to_json
    from lapsbench.report import profile_table
    from lapsbench.report.screen import Screen
    from lapsbench.store.profile import open_profile
    from lapsbench.store.suspicions import suspicions

    check_target(json_to)
    profile = open_profile(source)
    summary, grid, wary = summarize(profile), _grid(profile), suspicions(profile)
    failed = write_json({**to_json(summary), "grid": grid, "warnings": wary}, json_to) if json_to else None
    if json_to != "-":
        profile_table.render(summary, Screen(sys.stdout))
        typer.echo("\ngrid")
        typer.echo(laid_out([{"component": name, **axes} for name, axes in grid.items()]), nl=False)
        for name, value in _origin(profile):
            typer.echo(f"{name}: {value}")
        for line in wary:
            typer.echo(f"warning: {line}")
    if failed:
        raise failed


def _schedule(source: str, form: str, max_batch: int | None) -> str:
    """Return the best drafts by batch, and for ourselves by mean context, as text."""
    import json

    from lapsbench.schedules import VLLMS_KEY, VLLMS_MOST, as_vllm, written
    from lapsbench.sim.best_drafts import ceiling, flat
    from lapsbench.sim.best_drafts import schedule as best
    from lapsbench.store.profile import open_profile

    if form not in ("lapsbench", "vllm"):
        raise UsageError(f"unknown form {form!r}", where="--schedule", hint="lapsbench or vllm")
    profile = open_profile(source)
    batches = profile.costs.batch_size[profile.costs.component == "verify"]
    most_batch, most = max_batch or int(batches.max()), ceiling(profile)
    if form == "lapsbench":
        return written(best(profile, most_batch, most))
    ranges = flat(profile, most_batch, most)
    return json.dumps({VLLMS_MOST: max(1, *(it.drafts for it in ranges)), VLLMS_KEY: as_vllm(ranges, most_batch)})


def _grid(profile: Profile) -> dict[str, dict[str, list[int]]]:
    import numpy as np

    costs = profile.costs
    axes = {"batch": costs.batch_size, "query": costs.query_tokens, "context": costs.context_tokens}
    found = {
        name: {axis: np.unique(sizes[costs.component == name]).tolist() for axis, sizes in axes.items()}
        for name in dict.fromkeys(costs.component.tolist())
    }
    for axis, sizes in (("verify", costs.verify_tokens), ("chunk_context", costs.chunk_context_tokens)):
        if sizes is not None:
            of_mixed = np.unique(sizes[costs.component == "mixed"]).tolist()
            found = {name: {**axes, axis: of_mixed if name == "mixed" else []} for name, axes in found.items()}
    return found


def _origin(profile: Profile) -> list[tuple[str, str]]:
    """Return what the provenance says of where the numbers are from, in one line each."""
    wanted = ("device", "driver", "models", "source", "dtype", "command")
    found = {name: profile.provenance.get(name) for name in wanted}
    recorded = profile.provenance.get("acceptance")
    if isinstance(recorded, dict):
        found["acceptance"] = {key: recorded[key] for key in ("kind", "file", "format", "label") if key in recorded}
    return [(name, _one_line(value)) for name, value in found.items() if value]


def _one_line(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_one_line(each)}" for key, each in value.items())
    return " ".join(str(value).split())


@profiles.command(name="import")
def import_profile(
    source: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="Recorded acceptance: Spec-Bench, vLLM, SGLang, ...")
    ] = None,
    cost: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Whose step costs: a profile, or a file of step costs."),
    ] = None,
    draft: Annotated[str, typer.Option(metavar="NAME", help="Which draft, where the file has several.")] = "",
    draft_tokens_max: Annotated[
        int | None, typer.Option(metavar="K", min=1, max=255, help="Drafts the engine made (the most accepted).")
    ] = None,
    prompt_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, max=2**31 - 1, help="Length of prompts that the file gives none of.")
    ] = 1,
    out: Annotated[Path | None, _OUT] = None,
    quiet: Annotated[bool, _QUIET] = False,
) -> None:
    """Make a profile of somebody's recorded acceptance and somebody's step costs."""
    from lapsbench.acceptance.readers import read_acceptance
    from lapsbench.acceptance.readers.reader import Wanted
    from lapsbench.store.imported import open_costs, refuse_taken, with_acceptance, write_new

    # first: of a file that holds a mean only there is nothing to import, and its error says what to do instead
    reading = None if source is None else read_acceptance(source, Wanted(draft, draft_tokens_max, prompt_tokens))
    if cost is None:
        raise UsageError(
            "is missing", where="--cost", hint="a profile of `lapsbench profiles list`, or a table of costs"
        )
    if out is None:
        raise UsageError("is missing", where="--out", hint="the new profile's folder")
    refuse_taken(out)
    made = open_costs(cost)
    if source is not None and reading is not None:
        remark([f"{reading.format}: {len(reading.bank)} recordings, k to {reading.bank.draft_tokens_max}"], quiet=quiet)
        remark([reading.reconciliation, *reading.notes, _pair(made)], quiet=quiet)
        made = with_acceptance(made, reading, source, _command())
    write_new(out, made)
    typer.echo(str(out))


@profiles.command(name="from-linear")
def from_linear(
    target: Annotated[
        str, typer.Option(metavar="S,S,S", help="Target pass: seconds fixed, per batched and per cached token.")
    ],
    draft: Annotated[str, typer.Option(metavar="S,S,S", help="The same for the drafting of a round.")],
    out: Annotated[Path, _OUT],
    overhead: Annotated[float, typer.Option(metavar="S", help="Seconds of any step besides.")],
    acceptance: Annotated[
        str | None, typer.Option(metavar="synthetic:mean=2.5,...|FILE", help="Acceptance; none for costs only.")
    ] = None,
    draft_tokens: Annotated[
        int, typer.Option(metavar="K", min=1, max=255, help="Drafts a round that a synthetic mean is told for.")
    ] = 3,
    quiet: Annotated[bool, _QUIET] = False,
) -> None:
    """Make a profile of a linear step model: fixed + per_token * batch * query + per_kv_token * batch * context."""
    from lapsbench.acceptance.chosen import chosen
    from lapsbench.store.imported import linear_profile, refuse_taken, with_bank, write_new

    refuse_taken(out)
    made = linear_profile(_linear(target, "--target"), _linear(draft, "--draft"), overhead, _command())
    if acceptance is not None:
        found = chosen(acceptance, None, draft_tokens)
        remark(found.notes, quiet=quiet)
        made = with_bank(made, found.bank, found.label, _command())
    write_new(out, made)
    typer.echo(str(out))


def _pair(costs: Profile) -> str:
    models = costs.provenance.get("models")
    return f"the costs are of {_one_line(models) if models else costs.label}: see that the acceptance belongs to them"


def _linear(text: str, flag: str) -> Linear:
    import math

    from lapsbench.store.linear import Linear

    try:
        fixed_s, per_token_s, per_kv_token_s = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is not three numbers", where=flag, hint="5.9e-3,2.1e-5,3.9e-8") from None
    if not all(math.isfinite(value) and value >= 0 for value in (fixed_s, per_token_s, per_kv_token_s)):
        raise UsageError(f"{text!r} has a time below 0", where=flag, hint="seconds, 0 or more")
    return Linear(fixed_s, per_token_s, per_kv_token_s)


def _command() -> str:
    return shlex.join(["lapsbench", *sys.argv[1:]])
