"""`lapsbench tune`."""

from __future__ import annotations

import sys
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lapsbench.cli import flags
from lapsbench.cli.console import check_target, progress_bar, remark, write_json
from lapsbench.cli.running import COMPILING, elsewhere

if TYPE_CHECKING:
    from lapsbench.tuning.asked import Asked
    from lapsbench.tuning.proof import Proof
    from lapsbench.tuning.tuner import Tuner


def tune(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Everything goes here; the same command resumes it.")],
    over: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A|B, KEY=LO..HI", help="What may vary; repeatable. POLICY:param=LO..HI too."),
    ] = None,
    minimize: Annotated[str, typer.Option(metavar="METRIC", help="What is to be low (jct_mean).")] = "jct_mean",
    subject_to: Annotated[
        list[str] | None,
        typer.Option(metavar='"METRIC <= N[x fcfs]"', help="A limit, also on a ratio to today; repeatable."),
    ] = None,
    today: Annotated[
        Path | None,
        typer.Option(metavar="SCENARIO.toml", help="The setting to beat (the flags given, under fcfs)."),
    ] = None,
    budget: Annotated[
        str, typer.Option(metavar="10m|N", help="Time, the proof included; or a number of trials (5m).")
    ] = "5m",
    trace: flags.Trace = None,
    columns: flags.Columns = None,
    time_unit: flags.TimeUnit = None,
    failed: flags.Failed = None,
    profile: flags.Profile = None,
    acceptance: flags.Acceptance = None,
    acceptance_length: flags.AcceptanceLength = None,
    predict: flags.Predict = None,
    load: flags.Load = None,
    rate: flags.Rate = None,
    max_batch: flags.MaxBatch = None,
    draft_tokens: flags.DraftTokens = None,
    drafts: flags.Drafts = None,
    engine: flags.Engine = None,
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
    calibration: flags.Calibration = None,
    json_to: flags.JsonTo = None,
    jobs: flags.Jobs = None,
    on: flags.On = None,
    quiet: flags.Quiet = False,
) -> None:
    """Search the setting with the lowest mean JCT (or another metric), and prove it on traffic it was not chosen on.

    Settings are chosen on the first half of the trace and its seeds, the best is replayed on the other half.
    """
    given = {name: value for name, value in flags.settings(locals() | {"policy": None}).items() if value is not None}
    asked = _asked(today, given, over or [], minimize, subject_to or [], budget)
    place = flags.where(on, jobs, asked.scenario.engine)
    check_target(json_to)
    with progress_bar(quiet=quiet) as bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="joblib")  # after Ctrl-C, of trials that were under way
        task = bar.add_task("reading", total=None)

        def say(text: str) -> None:
            bar.update(task, description=text)
            remark([text], quiet=quiet or bar.console.is_terminal)

        from lapsbench.sim.compiling import told_of_compiling
        from lapsbench.tuning.tuner import Tuner

        with (
            told_of_compiling(lambda: say(COMPILING)),
            elsewhere(place, say, quiet=quiet) as machines,
            closing(Tuner(asked, out, say)) as tuner,
        ):
            proof = tuner.run(jobs or 1, say, lambda share: bar.update(task, completed=share, total=1.0), machines)
            say("drawing")
            content, told, serve = _keep(tuner, proof)
    failed_json = write_json(content, json_to) if json_to else None
    if json_to != "-":
        sys.stdout.write(f"{told}\n{serve}")
    remark([*tuner.remarks, *_where(out)], quiet=quiet)
    if failed_json:
        raise failed_json


def _asked(
    today: Path | None, given: dict[str, Any], over: list[str], minimize: str, limits: list[str], budget: str
) -> Asked:
    from lapsbench.errors import LapsbenchError

    try:
        from lapsbench.tuning import search as _  # noqa: F401 - imports Optuna
        from lapsbench.tuning.asked import asked_of
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise LapsbenchError(
            "takes optuna, which is not installed", where="tune", hint="pip install 'lapsbench[tune]'"
        ) from error
    return asked_of(today, given, over=over, minimize=minimize, subject_to=limits, budget=budget)


def _keep(tuner: Tuner, proof: Proof) -> tuple[dict[str, Any], str, str]:
    """Write what was found into the folder; return it as JSON, the verdict, and the flags of the server."""
    import json

    from lapsbench.report.plots.frontier import frontier_svg
    from lapsbench.tuning.picture import picture_of
    from lapsbench.tuning.serving import scenario_toml, serve_command
    from lapsbench.tuning.verdict import text, to_json

    folder, held = tuner.folder, tuner.traffic.held_out
    serve = serve_command(proof.run, tuner.space.engine(proof.run))
    content, told = to_json(tuner, proof, serve), text(tuner, proof)
    for name, setting in (("scenario.toml", proof.run), ("today.toml", proof.today)):
        folder.write(name, scenario_toml(setting, held, tuner.rate_rps))
    folder.write("serve.sh", serve)
    folder.write("verdict.txt", told)
    folder.write("result.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    if picture := picture_of(tuner, proof):
        folder.write("frontier.svg", frontier_svg(*picture))
    return content, told, serve


def _where(out: Path) -> list[str]:
    return [f"{out}: scenario.toml for lapsbench replay, serve.sh, frontier.svg, trials.parquet, result.json"]
