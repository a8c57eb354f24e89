"""The sentences people come for, in the order they ask: which scheduler to run, then what knowing was worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lapsbench.metrics.choice import METRIC, Choice, grows
from lapsbench.metrics.comparison import ratio
from lapsbench.metrics.pool import loads, policies, pooled, select
from lapsbench.metrics.wording import change, finding, listed, pair, size
from lapsbench.metrics.worth import worth

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.metrics.summary import CellSummary

SHOWN = 3
"""Of the undecided, more are not named."""
NOBODY = "Nobody waited for a place in the batch, so no scheduler could make a difference."


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence about one load: the `choice` of a scheduler, or what knowing was `worth`."""

    load: float | None
    text: str
    about: Literal["choice", "worth"] = "worth"

    @property
    def lead(self) -> str:
        """What to read where there is time for one clause: of a choice, what to run."""
        head, colon, _ = self.text.partition(": ")
        return "" if self.about == "worth" else head + colon if colon else self.text


def verdicts(cells: Sequence[CellSummary], chosen: Sequence[Choice] = (), tail: float = 1.3) -> tuple[Verdict, ...]:
    """Return the sentences the policies that were run allow."""
    found = []
    for load in loads(cells):
        here = [cell for cell in cells if cell.load == load]
        if nobody_waited(here):
            found.append(Verdict(load, NOBODY, "choice"))
            continue
        mine = [each for each in chosen if each.load == load]
        found += [Verdict(load, text, "choice") for text in _choices(here, mine, tail)]
        found += [Verdict(load, text) for text in worth(here, load)]
    return tuple(found)


def nobody_waited(cells: Sequence[CellSummary]) -> bool:
    """Say whether policies that were run on the same work did the very same: the batch never filled."""
    trials: dict[tuple[float | None, int], list[float | None]] = {}
    for cell in cells:
        trials.setdefault((cell.load, cell.seed), []).append(cell.metrics["jct_mean_s"])
    return all(len(means) > 1 and len(set(means)) == 1 and means[0] is not None for means in trials.values())


def _choices(cells: Sequence[CellSummary], chosen: Sequence[Choice], tail: float) -> Iterator[str]:
    """Say what to run; aims that have one answer share a sentence."""
    if chosen and not any(each.sound for each in chosen if each.aim == "mean"):
        yield (
            "No scheduler here keeps up, so none is recommended: what is compared is how far each fell behind. "
            "Offer less, or serve with more."
        )
        return
    aims = {each.aim: each for each in chosen}
    mean, tailed = aims.get("mean"), aims.get("tail")
    if mean and tailed and _same_answer(mean, tailed):
        yield _sentence(cells, tailed, tail, f"For the lowest mean JCT, also with p99 at most {tail:g} x {mean.today},")
        chosen = [each for each in chosen if each.aim == "goodput"]
    names = {
        "mean": "For the lowest mean JCT",
        "tail": f"With p99 at most {tail:g} x {tailed.today if tailed else ''}",
        "goodput": "For the most goodput",
    }
    for each in chosen:
        yield _sentence(cells, each, tail, names[each.aim])


def _same_answer(mean: Choice, tailed: Choice) -> bool:
    return tailed.sound > 0 and (mean.policy, mean.undecided) == (tailed.policy, tailed.undecided)


def _sentence(cells: Sequence[CellSummary], each: Choice, tail: float, aim: str) -> str:
    if not each.sound:
        return f"{aim} there is no answer: {each.today} itself does not keep up, so its p99 is no yardstick."
    if each.policy == each.today:
        return f"{aim} keep {each.today}: {_why_keep(cells, each)}."
    if each.policy is None:
        return f"{aim} it is undecided between {_undecided(cells, each)}{_easiest(each)}."
    parts = [_gain(cells, each), *([", ".join(price)] if (price := list(_price(each, tail))) else [])]
    return f"{aim} run {each.policy}: {'; '.join(parts)}.{_takes(each)}"


def _why_keep(cells: Sequence[CellSummary], each: Choice) -> str:
    others = [name for name in each.undecided if name != each.today]
    if not others and each.aim == "tail" and each.sound == 1:
        return f"no other here keeps its p99 that low{_closest(cells, each)}"
    if not others:
        return "nothing else here is better"
    close = [f"{name} {_change(cells, name, each)}" for name in others[:SHOWN]]
    return f"nothing here is shown to beat it ({', '.join(close)}{_more(others)})"


def _closest(cells: Sequence[CellSummary], each: Choice) -> str:
    """Name the shortest tail of those whose means are better."""
    real = [cell for cell in cells if not cell.oracle]
    better = [name for name in policies(real) if (_ratio(real, name, each, "jct_mean_s") or 1.0) < 1.0]
    p99 = {name: found for name in better if (found := _ratio(real, name, each, "jct_p99_s")) is not None}
    if not p99:
        return ""
    name = min(p99, key=lambda name: p99[name])
    return f" with a better mean ({name} comes closest: {p99[name]:.2f} x)"


def _ratio(cells: Sequence[CellSummary], name: str, each: Choice, metric: str) -> float | None:
    return ratio(cells, name, each.today, each.load, metric).ratio


def _undecided(cells: Sequence[CellSummary], each: Choice) -> str:
    shown = each.undecided[:SHOWN]
    rest = len(each.undecided) - SHOWN
    names = listed([*shown, f"{rest} more"] if rest > 0 else shown)
    return f"{names}: {listed([_change(cells, name, each) for name in shown])} against {each.today}"


def _change(cells: Sequence[CellSummary], name: str, each: Choice) -> str:
    return change(ratio(cells, name, each.today, each.load, METRIC[each.aim]))


def _more(names: Sequence[str]) -> str:
    return f", {len(names) - SHOWN} more" if len(names) > SHOWN else ""


def _gain(cells: Sequence[CellSummary], each: Choice) -> str:
    """Say what it changes against today's scheduler."""
    policy = each.policy or ""
    worth_ = ratio(cells, policy, each.today, each.load, METRIC[each.aim])
    if each.aim == "goodput":
        now, then = (
            pooled(select(cells, name, each.load), "goodput_rps").value or 0.0 for name in (each.today, policy)
        )
        what = f"{size(worth_)} more" if finding(worth_) == "gain" else "more"
        return f"{what} requests a second within the SLOs ({each.today} {now:.3g} -> {policy} {then:.3g})"
    if worth_.ratio is None:
        return f"{each.today} leaves requests unfinished"
    behind = f", but {each.today} does not keep up" if grows(select(cells, each.today, each.load)) else ""
    what = f"{size(worth_)} below" if finding(worth_) == "gain" else f"{change(worth_)} against"
    metric = "mean JCT " if each.aim == "tail" else ""
    return f"{metric}{what} {each.today} ({pair(cells, each.today, policy, each.load)}){behind}"


def _price(each: Choice, tail: float) -> Iterator[str]:
    if each.p99 is not None:
        text = f"p99 {each.p99:.2f} x {each.today}"
        if each.aim == "tail" and not each.proven:
            upto = f"up to {each.p99_high:.2f} x" if each.p99_high is not None else "one seed gives it no interval"
            text += f", within {tail:g} x not proven: {upto}"
        yield text
    if each.preemptions:
        yield f"{each.preemptions:.2g} preemptions a request"


def _takes(each: Choice) -> str:
    if each.needs is None:
        return ""
    return f" It takes {listed(each.needs)}." if each.needs else " It takes nothing that fcfs does not."


def _easiest(each: Choice) -> str:
    return f"; {each.best} was fastest, and takes {listed(each.needs)}" if each.needs else ""
