"""The two sentences people come for: what knowing lengths was worth, and what knowing acceptance was to an oracle.

Whether that is the most it could be worth, and where, is for the oracle to say (`CellSummary.bounds`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lapsbench.metrics.comparison import Comparison, ratio
from lapsbench.metrics.pool import loads, policies, pooled, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.metrics.summary import CellSummary

BLIND = "fcfs"
LENGTHS = "oracle-srpt-tokens"
ROUNDS = "oracle-srpt-rounds"
PREDICTED = "srpt"
AWARE = ("laps-sd", "srpt-accept")
SAME = 0.01
"""A ratio whose whole interval lies this close to 1 is no difference to an engineer."""

Finding = Literal["gain", "loss", "same", "undecided"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence about one load."""

    load: float | None
    text: str


def verdicts(cells: Sequence[CellSummary]) -> tuple[Verdict, ...]:
    """Return the sentences the policies that were run allow; `missing` names those that would allow the rest."""
    found = []
    for load in loads(cells):
        here = [cell for cell in cells if cell.load == load]
        if nobody_waited(here):
            found.append(
                Verdict(load, "Nobody waited for a place in the batch, so no scheduler could make a difference.")
            )
            continue
        found += [Verdict(load, text) for text in (_lengths(here, load), _acceptance(here, load)) if text]
    return tuple(found)


def nobody_waited(cells: Sequence[CellSummary]) -> bool:
    """Say whether policies that were run on the same work did the very same: the batch never filled."""
    trials: dict[tuple[float | None, int], list[float | None]] = {}
    for cell in cells:
        trials.setdefault((cell.load, cell.seed), []).append(cell.metrics["jct_mean_s"])
    return all(len(means) > 1 and len(set(means)) == 1 and means[0] is not None for means in trials.values())


def missing(cells: Sequence[CellSummary]) -> tuple[str, ...]:
    """Return the policies still needed for both sentences."""
    run = policies(cells)
    wanted = [BLIND, LENGTHS, ROUNDS]
    if any(_base(name) in AWARE for name in run):
        wanted.append(PREDICTED)
    return tuple(name for name in wanted if name not in run)


def _lengths(cells: Sequence[CellSummary], load: float | None) -> str:
    worth = _worth(cells, LENGTHS, BLIND, load)
    if worth is None:
        return ""
    pair = _pair(cells, BLIND, LENGTHS, load)
    match _finding(worth):
        case "gain":
            return f"Knowing lengths was worth {_size(worth)} of mean JCT here ({pair})."
        case "loss":
            return f"Knowing lengths did not pay here: it made mean JCT {_size(worth)} longer ({pair})."
        case "same":
            return f"Knowing lengths made no difference here: it changed mean JCT by {_change(worth)} ({pair})."
    return f"What knowing lengths is worth is undecided here: it changed mean JCT by {_change(worth)} ({pair})."


def _acceptance(cells: Sequence[CellSummary], load: float | None) -> str:
    ceiling = _ceiling(cells, load)
    if got := _got(cells, load):
        against = f"gainst srpt, which ignores acceptance, {got}."
        return f"{ceiling}; a{against}" if ceiling else f"A{against}"
    return f"{ceiling}." if ceiling else ""


def _ceiling(cells: Sequence[CellSummary], load: float | None) -> str:
    worth = _worth(cells, ROUNDS, LENGTHS, load)
    if worth is None:
        return ""
    pair = _pair(cells, LENGTHS, ROUNDS, load)
    bounds = select(cells, ROUNDS, load)[0].bounds
    limit = f"; the oracle bounds {bounds}" if bounds else ""
    match _finding(worth):
        case "gain":
            return f"Knowing acceptance was worth {_size(worth)} more to an oracle ({pair}){limit}"
        case "loss":
            what = f"it made mean JCT {_size(worth)} longer"
            return f"Knowing acceptance was worth nothing to an oracle here: {what} ({pair}){limit}"
        case "same":
            return (
                "Knowing acceptance was worth next to nothing to an oracle: "
                f"it changed mean JCT by {_change(worth)} ({pair}){limit}"
            )
    return (
        "Knowing acceptance could not be shown to be worth anything to an oracle: "
        f"it changed mean JCT by {_change(worth)} ({pair}){limit}"
    )


def _got(cells: Sequence[CellSummary], load: float | None) -> str:
    found = []
    for name in policies(cells):
        worth = _worth(cells, name, PREDICTED, load) if _base(name) in AWARE else None
        if worth is None:
            continue
        match _finding(worth):
            case "gain":
                found.append(f"{name} gained {_size(worth)}")
            case "loss":
                found.append(f"{name} lost {_size(worth)}")
            case "same":
                found.append(f"{name} made no difference, {_change(worth)}")
            case "undecided":
                found.append(f"{name} is undecided, {_change(worth)}")
    return ", ".join(found)


def _worth(cells: Sequence[CellSummary], policy: str, other: str, load: float | None) -> Comparison | None:
    """Compare mean JCTs; None where either policy was not run, or the ratio is undefined."""
    found = ratio(cells, policy, other, load)
    return None if found.ratio is None else found


def _finding(worth: Comparison) -> Finding:
    if worth.low is None or worth.high is None:
        return "undecided"
    if 1 - SAME <= worth.low <= 1 <= worth.high <= 1 + SAME:
        return "same"
    return "gain" if worth.high < 1 else "loss" if worth.low > 1 else "undecided"


def _change(worth: Comparison) -> str:
    """Write the change of the mean JCT: minus is faster."""
    change, low, high = (f"{round(_percent(each), 1) + 0.0:+.1f}" for each in (worth.ratio, worth.low, worth.high))
    if worth.low is None:
        return f"{change} % (too few requests for an interval)"
    return f"{change} % [{low} to {high}]"


def _size(worth: Comparison) -> str:
    """Write a clear gain or loss without its sign."""
    size = abs(_percent(worth.ratio))
    low, high = sorted((abs(_percent(worth.low)), abs(_percent(worth.high))))
    digits = 0 if size >= 10 else 1
    return f"{size:.{digits}f} % [{low:.{digits}f} to {high:.{digits}f}]"


def _percent(ratio_: float | None) -> float:
    return 0.0 if ratio_ is None else 100 * (ratio_ - 1)


def _pair(cells: Sequence[CellSummary], before: str, after: str, load: float | None) -> str:
    return " -> ".join(_named(select(cells, policy, load)) for policy in (before, after))


def _named(cells: Sequence[CellSummary]) -> str:
    mean = pooled(cells, "jct_mean_s").value
    return f"{cells[0].label} {'?' if mean is None else seconds(mean)}"


def _base(policy: str) -> str:
    return policy.partition(":")[0]


def seconds(value: float) -> str:
    """Write a time with three digits that matter, in ms below a second."""
    scaled, unit = (value, "s") if value >= 1 else (1000 * value, "ms")
    digits = 2 if scaled < 10 else 1 if scaled < 100 else 0
    return f"{scaled:,.{digits}f} {unit}"
