"""`lapsbench replay`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from lapsbench.cli import flags
from lapsbench.cli.console import check_target
from lapsbench.cli.running import run, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.replay import Replayer


def replay(
    scenario: flags.ScenarioFile = None,
    trace: flags.Trace = None,
    columns: flags.Columns = None,
    time_unit: flags.TimeUnit = None,
    failed: flags.Failed = None,
    profile: flags.Profile = None,
    acceptance: flags.Acceptance = None,
    acceptance_length: flags.AcceptanceLength = None,
    policy: flags.Policy = None,
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
    baseline: flags.Baseline = None,
    tail: flags.Tail = None,
    calibration: flags.Calibration = None,
    out: flags.Out = None,
    json_to: flags.JsonTo = None,
    jobs: flags.Jobs = None,
    on: flags.On = None,
    quiet: flags.Quiet = False,
    smoke: flags.Smoke = False,
    print_config: flags.PrintConfig = False,
) -> None:
    """Replay arrivals on measured step costs under several schedulers, and print who was fastest.

    With no arguments: the shipped chat trace at load 0.9 on the shipped profile, by the rules of vLLM's scheduler.
    """
    from lapsbench.scenario import as_toml, read

    given = flags.settings(locals())
    wanted = read(scenario, given, smoke=smoke)
    if print_config:
        from lapsbench.planning import settled

        typer.echo(as_toml(settled(wanted)), nl=False)
        return
    place = flags.where(on, jobs, wanted.engine)
    check_target(json_to)

    def make(say: Callable[[str], None]) -> Replayer:
        from lapsbench.replay import Replayer

        return Replayer(wanted, out, say)

    patience = not (quiet or smoke or wanted.engine == "vllm-native")  # its own Scheduler is slow
    result, replayer = run(make, "replaying", jobs or 1, quiet=quiet, patience=patience, on=place)
    show(result, replayer, json_to, quiet=quiet)
