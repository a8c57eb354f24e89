"""The verdict in words, in 100 columns: what to run, what it changes where it was chosen and where it was not."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from lapsbench.metrics.comparison import Comparison
from lapsbench.metrics.gate import short_name
from lapsbench.metrics.wording import change, finding, is_next_to_nothing, listed, seconds, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.tuning.limits import Judged
    from lapsbench.tuning.proof import Proof, Rival, Side
    from lapsbench.tuning.tuner import Tuner

WIDTH = 100
LABEL, COLUMN = 30, 35


def text(tuner: Tuner, proof: Proof) -> str:
    """Return everything that is printed of a result, but for the flags of the server."""
    blocks = ["\n".join(_facts(tuner, proof))]
    if proof.chosen_on and proof.held_out:
        blocks.append("\n".join(_table(tuner, proof, [proof.chosen_on, proof.held_out])))
    blocks.append("\n".join(textwrap.fill(each, WIDTH) for each in sentences(tuner, proof)))
    return "\n\n".join(blocks) + "\n"


def sentences(tuner: Tuner, proof: Proof) -> list[str]:
    """Return the sentences people come for."""
    limits = listed([limit.text for limit in tuner.asked.limits]) if tuner.asked.limits else ""
    metric, today = short_name(tuner.asked.minimize), f"today's {proof.today.policy}"
    if proof.best is None or proof.held_out is None or proof.chosen_on is None:
        return [_nothing(tuner, proof, metric, limits)]
    held, worth = proof.held_out.change, size(proof.held_out.change)
    if proof.answer == "overfitted":
        said = (
            f"Keep today's setting: {proof.best} changed {metric} by {change(proof.chosen_on.change)} where it was "
            f"chosen, and by {change(held)} on held-out traffic: what was found does not hold there, it was overfitted."
        )
        return [said]
    if proof.answer == "broken":
        said = (
            f"Keep today's setting: {proof.best} has {metric} {worth} below {today} on held-out traffic, but breaks "
            f"{limits} there ({_limits(proof.held_out.limits)}). A tighter limit finds a setting with room to spare."
        )
        return [said]
    kept = f", and keeps {limits} ({_limits(proof.held_out.limits)})" if limits else ""
    found = [f"Run {proof.best}: on held-out traffic {metric} is {worth} below {today}{kept}."]
    if not all(each.proven for each in proof.held_out.limits):
        found.append("The limit is kept by the value, not by its whole interval: not proven.")
    if not all(proof.keep_up):
        found.append(_growing(*proof.keep_up))
    found.append(_overfitting(proof, metric))
    if proof.plainer is not None:
        found.append(
            f"No policy is shown to beat fcfs with this batch and these drafts where it was chosen (the lowest, "
            f"{proof.plainer.policy}: {change(proof.plainer.change)}), so fcfs stays: what gains is the rest."
        )
    found += [_rival(each, metric, limits) for each in proof.rivals]
    return found


def to_json(tuner: Tuner, proof: Proof, serve: str) -> dict[str, Any]:
    """Return what `--json` writes."""
    asked = tuner.asked
    sides = {"chosen_on": proof.chosen_on, "held_out": proof.held_out}
    return {
        "schema": "lapsbench.tune/1",
        "trace": tuner.plan.trace.name,
        "profile": tuner.plan.profile.name,
        "engine": asked.scenario.engine,
        "rate_rps": tuner.rate_rps,
        "minimize": asked.minimize,
        "subject_to": [limit.text for limit in asked.limits],
        "trials": len(tuner.trials.rows),
        "answer": proof.answer,
        "today": dict(proof.today.values),
        "best": dict(proof.best.values) if proof.best else None,
        "run": dict(proof.run.values),
        **{name: _side_json(side) if side else None for name, side in sides.items()},
        "rivals": [{"policy": each.policy, **_change_json(each.change, each.limits)} for each in proof.rivals],
        "sentences": sentences(tuner, proof),
        "serve": serve,
    }


def _facts(tuner: Tuner, proof: Proof) -> Iterator[str]:
    scenario, rows = tuner.asked.scenario, tuner.trials.rows
    rate = "on its own clock" if tuner.rate_rps is None else f"at {tuner.rate_rps:.4g} requests a second"
    load = "" if tuner.load is None else f" (load {tuner.load:g} of today's setting)"
    profile, full = tuner.plan.profile, sum(row.look == len(tuner.traffic.looks) - 1 for row in rows)
    settings = len({row.setting for row in rows})
    lines = [
        f"{tuner.plan.trace.name}: {tuner.requests:,} requests {rate}{load}; {scenario.engine} engine; {profile.name}",
        f"       {profile.label}",
        f"today: {proof.today}",
        f"tried: {settings:,} settings in {len(rows):,} trials, {full:,} of them on all of the traffic to choose on",
    ]
    if proof.best is not None:
        lines.append(f"best:  {proof.best}")
    for line in lines:
        yield textwrap.fill(line, WIDTH, subsequent_indent="       ")


def _table(tuner: Tuner, proof: Proof, sides: Sequence[Side]) -> Iterator[str]:
    metric = short_name(tuner.asked.minimize)

    def line(label: str, cells: Sequence[str]) -> str:
        return f"{label:<{LABEL}}{''.join(f'{cell:<{COLUMN}}' for cell in cells)}".rstrip()

    yield line("", [side.look.name for side in sides])
    yield line("requests, seeds", [f"{len(each.look.trace):,}, {_seeds(each.look.seeds)}" for each in sides])
    yield line(f"{metric}, today", [_amount(each.today, tuner.asked.minimize) for each in sides])
    yield line(f"{metric}, best", [_amount(each.best, tuner.asked.minimize) for each in sides])
    yield line("  change", [change(each.change) for each in sides])
    for place, limit in enumerate(tuner.asked.limits):
        label = limit.text if len(limit.text) < LABEL else f"{limit.text[: LABEL - 4]}..."
        yield line(label, [_judged(each.limits[place]) for each in sides])
    for rival in proof.rivals:
        yield line(f"  against {rival.policy}, same engine", ["", change(rival.change)])


def _nothing(tuner: Tuner, proof: Proof, metric: str, limits: str) -> str:
    under = f" under {limits}" if limits else ""
    text = f"Keep today's setting: nothing that was tried is shown to have a lower {metric}{under}."
    if proof.closest is None or proof.closest.ratio is None:
        return text
    near = proof.closest
    found = Comparison(near.policy, "", None, tuner.asked.minimize, near.ratio, near.low, near.high, "seeds", 1)
    broken = f", and breaks it: {_limits(near.limits)}" if near.beyond else ""
    return f"{text} Closest came {near.policy}, {change(found)}{broken}."


def _growing(today: bool, best: bool) -> str:  # noqa: FBT001 - who keeps up
    who = "today's setting" if best else "the best" if today else "both settings"
    return f"The queue grows under {who} on held-out traffic, so how large a gain is depends on the trace's length."


def _overfitting(proof: Proof, metric: str) -> str:
    if proof.chosen_on is None or proof.held_out is None:
        return ""
    there, here = change(proof.chosen_on.change), change(proof.held_out.change)
    if proof.differs == "less":
        return (
            f"The two differ: {metric} {there} where it was chosen, but {here} on held-out traffic. Some of it was "
            "fitted to the former, or the traffic differs: count on the latter."
        )
    if proof.differs == "more":
        return f"The two differ: {metric} {there} where it was chosen, and {here}, more, on held-out traffic."
    return f"The two agree: {metric} {there} where it was chosen, {here} on held-out traffic."


def _rival(rival: Rival, metric: str, limits: str) -> str:
    broken = f" ({rival.policy} breaks {limits})" if any(not each.kept for each in rival.limits) else ""
    where = f"{rival.policy} with the same batch and drafts"
    found = finding(rival.change)
    if is_next_to_nothing(rival.change):
        return f"Against {where} it makes no difference: {metric} {change(rival.change)}{broken}."
    if found == "gain":
        return f"It beats {where}: {metric} {size(rival.change)} below{broken}."
    if found == "loss":
        return f"It does not beat {where}: {metric} {size(rival.change)} above{broken}."
    return f"It is not shown to beat {where}: {metric} {change(rival.change)}{broken}."


def _judged(each: Judged) -> str:
    said = "kept" if each.proven else "kept, not proven" if each.kept else "broken"
    return f"{_number(each)} {said}"


def _limits(judged: Sequence[Judged]) -> str:
    return listed([_number(each) for each in judged])


def _number(each: Judged) -> str:
    if each.value is None:
        return "undefined"
    if each.low is None or each.high is None:
        return f"{each.value:#.3g}"
    return f"{each.value:#.3g} [{each.low:#.3g} to {each.high:#.3g}]"


def _amount(value: float | None, metric: str) -> str:
    if value is None:
        return "-"
    return seconds(value) if metric.endswith("_s") else f"{value:.3g}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def _side_json(side: Side) -> dict[str, Any]:
    numbers = {"requests": len(side.look.trace), "seeds": list(side.look.seeds), "today": side.today, "best": side.best}
    return numbers | _change_json(side.change, side.limits)


def _change_json(found: Comparison, limits: Sequence[Judged]) -> dict[str, Any]:
    judged = [
        {"value": each.value, "low": each.low, "high": each.high, "kept": each.kept, "proven": each.proven}
        for each in limits
    ]
    return {"ratio": found.ratio, "low": found.low, "high": found.high, "limits": judged}
