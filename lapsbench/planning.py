"""From settings to nouns: open what a scenario names, and blame the flag that named what cannot be opened."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.drafting import drafting_of, drafts_asked
from lapsbench.engines import engine_of, resolved
from lapsbench.errors import UsageError
from lapsbench.policies.naming import told_apart
from lapsbench.policies.predictors import parse_predictor
from lapsbench.policies.registry import find, spec_of
from lapsbench.resources import names as shipped_names
from lapsbench.resources import shipped
from lapsbench.scenario import TRACE
from lapsbench.sim.sweep import Plan
from lapsbench.store.profile import open_profile
from lapsbench.traces import open_trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.core import Policy, Profile, Trace
    from lapsbench.scenario import Scenario

PREFILL_FREE = "TTFT is without prefill: the profile prices none, so prompts cost no time"
SYNTHETIC_BANK = "synthetic acceptance"
"""The place that errors of a generated bank name."""


def plan(scenario: Scenario) -> tuple[Plan, str]:
    """Open and parse everything the scenario names; return the plan, and the baseline's name."""
    scenario.parsed_slo  # noqa: B018 - a bad SLO should not wait for the replay to end
    policies = told_apart([find(spec) for spec in scenario.policies])
    baseline = _baseline(scenario, policies)
    predictor = parse_predictor(scenario.predict)
    with _blaming("--trace"):
        trace = open_trace(
            scenario.trace or TRACE,
            window=scenario.window,
            limit=scenario.limit,
            columns=scenario.columns,
            time_unit=scenario.time_unit,
            failed=scenario.failed,
        )
    history = _history(scenario)
    profile, remarks = _profile(scenario)
    if scenario.acceptance is not None:
        trace = _each_its_own(trace, profile, scenario.acceptance)
    if not profile.costs.has("prefill"):
        remarks = (*remarks, PREFILL_FREE)
    trace = replace(trace, notes=(*trace.notes, *remarks))
    return Plan(
        trace=trace,
        profile=profile,
        engine=engine_of(scenario, profile, drafting_of(scenario, profile)),
        predictor=predictor,
        policies=tuple(policies),
        loads=scenario.loads,
        rate_rps=scenario.rate,
        seeds=tuple(range(scenario.seed, scenario.seed + scenario.repeats)),
        history=history,
    ), baseline


def _each_its_own(trace: Trace, profile: Profile, acceptance: str) -> Trace:
    """Where that is of a served run, have every request name its own recording: what it accepted there."""
    from lapsbench.acceptance.served import is_served  # noqa: PLC0415 - with all readers of acceptance

    if not is_served(acceptance):
        return trace
    bank = profile.bank
    if bank is None or not np.array_equal(bank.prompt_tokens, trace.prompt_tokens):
        what = "is a run of other requests than this trace's"
        where = f"--acceptance {acceptance}"
        raise UsageError(what, where=where, hint="the trace, --limit and --window that it was served with")
    return replace(trace, prompt_id=bank.prompt_id)


def settled(scenario: Scenario) -> Scenario:
    """Return the scenario with every setting of its engine filled in."""
    varies = scenario.drafts is not None or isinstance(scenario.draft_tokens, str)
    profile = _profile(scenario)[0] if scenario.engine != "ideal" or varies else None
    drafts = drafting_of(scenario, profile) if profile is not None else {"draft_tokens": drafts_asked(scenario)}
    told = {"draft_tokens": drafts.get("schedule") or drafts["draft_tokens"]}
    return scenario.model_copy(update=resolved(scenario, profile) | told)


def _baseline(scenario: Scenario, policies: Sequence[Policy]) -> str:
    """Return the baseline as the table names it, however it was typed."""
    names = [spec_of(policy) for policy in policies]
    typed = scenario.baseline
    if typed is None:
        return "fcfs" if "fcfs" in names else names[0]
    if typed in names:
        return typed
    hint = f"one of: {', '.join(names)}"
    if any(name.endswith(f".py:{typed}") for name in names):
        raise UsageError(f"{typed} does not say in which file", where="--baseline", hint=hint)
    with _blaming("--baseline"):
        wanted = find(typed)
    for policy, name in zip(policies, names, strict=True):
        if _rule(policy) == _rule(wanted):
            return name
    raise UsageError(f"{spec_of(wanted)} is not among the policies", where="--baseline", hint=hint)


def _rule(policy: Policy) -> tuple[str, str, dict[str, float]]:
    """Return what makes two policies one, whatever they are called: the function, and its parameters."""
    return policy.rank.__module__, policy.rank.__qualname__, dict(policy.parameters)


def _history(scenario: Scenario) -> Trace | None:
    """Open what calibrated policies learn from; it must not be what they are tested on."""
    if not scenario.calibration:
        return None
    if _file_of(scenario.calibration) == _file_of(scenario.trace or TRACE):
        what = "is the replayed trace: policies would learn from their own test"
        raise UsageError(what, where="--calibration", hint="another trace")
    with _blaming("--calibration"):
        return open_trace(scenario.calibration)


def _profile(scenario: Scenario) -> tuple[Profile, tuple[str, ...]]:
    """Open the profile; with other acceptance than its own, where that is asked for, and remarks on it."""
    profile = open_profile(scenario.profile)
    spec, length, k = scenario.acceptance, scenario.acceptance_length, drafts_asked(scenario)
    if spec is None and length is None:
        return profile, ()
    flag = "--acceptance" if length is None else "--acceptance-length"
    if k == 0:
        raise UsageError("means nothing without drafts", where=flag, hint="--draft-tokens 1 or more")
    from lapsbench.acceptance.chosen import chosen, of_length  # noqa: PLC0415 - with all readers of acceptance

    with _blaming(flag):
        found = of_length(length, profile.bank, k) if length is not None else chosen(spec or "", profile.bank, k)
    provenance = {**profile.provenance, "label": f"{profile.label}; {found.label}"}
    return replace(profile, bank=found.bank, provenance=provenance), found.notes


def _file_of(trace: str) -> Path:
    return (shipped("traces") / f"{trace}.parquet" if trace in shipped_names("traces") else Path(trace)).resolve()


@contextmanager
def _blaming(flag: str) -> Iterator[None]:
    """Name the flag that is to blame, where what it calls names a flag or noun of its own."""
    try:
        yield
    except UsageError as error:
        if error.where not in ("--policy", "trace", SYNTHETIC_BANK) and not error.where.startswith("acceptance "):
            raise
        raise UsageError(error.what, where=flag, hint=error.hint) from error
