"""What counting the prompt, knowing lengths and knowing acceptance were worth, in mean JCT: a sentence each.

Whether that is the most it could be worth, and where, is for the oracle to say (`CellSummary.bounds`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.metrics.comparison import Comparison, ratio
from lapsbench.metrics.pool import policies
from lapsbench.metrics.wording import change, finding, pair, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.metrics.summary import CellSummary

BLIND = "fcfs"
LENGTHS = "oracle-srpt-tokens"
ROUNDS = "oracle-srpt-rounds"
PREDICTED = "srpt"
AWARE = ("laps-sd", "srpt-accept")
PROMPT = (("sjf", "work"), ("srpt", "srpt-work"), (LENGTHS, "oracle-work-tokens"))
"""Policies that differ in nothing but whether they count the prompt."""
BY_SIZE = ("sjf", "srpt")
"""Policies that differ from fcfs in nothing but that they go by predicted lengths; sjf preempts nobody either."""
BY_WORK = ("srpt-work", "least-work", "work")
"""What knows predicted lengths and counts the prompt, the oracle's own rule first."""
ORACLES = (("oracle-work-tokens", "oracle-work-rounds"), (LENGTHS, ROUNDS))
"""Oracles that differ in nothing but whether they know acceptance."""


def worth(cells: Sequence[CellSummary], load: float | None) -> tuple[str, ...]:
    """Return the sentences that the policies replayed at this load allow."""
    asked = _Asked(cells, load)
    return tuple(text for text in (asked.prompt(), asked.lengths(), asked.acceptance()) if text)


def missing(cells: Sequence[CellSummary]) -> tuple[str, ...]:
    """Return the policies still needed for all sentences."""
    run = policies(cells)
    oracles = next((each for each in ORACLES if set(each) & set(run)), ORACLES[0])
    wanted = [BLIND, *oracles]
    if any(_base(name) in AWARE for name in run):
        wanted.append(PREDICTED)
    return tuple(name for name in wanted if name not in run)


class _Asked:
    """The cells of one load, and what is asked of them."""

    def __init__(self, cells: Sequence[CellSummary], load: float | None) -> None:
        self.cells, self.load = cells, load

    def prompt(self) -> str:
        found = [(plain, counting, each) for plain, counting in PROMPT if (each := self._ratio(counting, plain))]
        texts = [self._said(each, plain, counting) for plain, counting, each in found]
        return f"Counting the prompt {'; it '.join(texts)}." if texts else ""

    def lengths(self) -> str:
        told = self._ratio(LENGTHS, BLIND)
        texts = [f"Knowing lengths {self._said(told, BLIND, LENGTHS, ' here')}"] if told else []
        for name in BY_SIZE:
            if each := self._ratio(name, BLIND):
                start = "; as predicted it " if texts else "Knowing lengths as predicted "
                texts.append(f"{start}{self._said(each, BLIND, name)}")
                break
        exact = ORACLES[0][0]
        for name in BY_WORK:
            if each := self._ratio(exact, name):
                start = "; knowing them exactly " if texts else "Knowing lengths exactly, not as predicted, "
                texts.append(f"{start}{self._said(each, name, exact, more=bool(texts))}")
                break
        return f"{''.join(texts)}." if texts else ""

    def acceptance(self) -> str:
        ceiling, got = self._ceiling(), ", ".join(self._got())
        if got:
            against = f"gainst srpt, which ignores acceptance, {got}."
            return f"{ceiling}; a{against}" if ceiling else f"A{against}"
        return f"{ceiling}." if ceiling else ""

    def _said(self, each: Comparison, before: str, after: str, here: str = "", *, more: bool = False) -> str:
        """Say what going from one policy to another did."""
        names = pair(self.cells, before, after, self.load)
        match finding(each):
            case "gain":
                of_what = "more" if more else f"of mean JCT{here}"
                return f"was worth {size(each)} {of_what} ({names})"
            case "loss":
                return f"did not pay{here}: it made mean JCT {size(each)} longer ({names})"
            case "same":
                return f"made no difference{here}: it changed mean JCT by {change(each)} ({names})"
        return f"is undecided{here}: it changed mean JCT by {change(each)} ({names})"

    def _ceiling(self) -> str:
        for before, after in ORACLES:
            if each := self._ratio(after, before):
                return _told_to_an_oracle(each, pair(self.cells, before, after, self.load))
        return ""

    def _got(self) -> Iterator[str]:
        for name in policies(self.cells):
            each = self._ratio(name, PREDICTED) if _base(name) in AWARE else None
            if each is None:
                continue
            match finding(each):
                case "gain":
                    yield f"{name} gained {size(each)}"
                case "loss":
                    yield f"{name} lost {size(each)}"
                case "same":
                    yield f"{name} made no difference, {change(each)}"
                case "undecided":
                    yield f"{name} is undecided, {change(each)}"

    def _ratio(self, policy: str, other: str) -> Comparison | None:
        """Compare mean JCTs; None where either policy was not run, or the ratio is undefined."""
        found = ratio(self.cells, policy, other, self.load)
        return None if found.ratio is None else found


def _told_to_an_oracle(each: Comparison, names: str) -> str:
    match finding(each):
        case "gain":
            return f"Knowing acceptance was worth {size(each)} more to an oracle ({names})"
        case "loss":
            what = f"it made mean JCT {size(each)} longer"
            return f"Knowing acceptance was worth nothing to an oracle here: {what} ({names})"
        case "same":
            what = f"it changed mean JCT by {change(each)}"
            return f"Knowing acceptance was worth next to nothing to an oracle: {what} ({names})"
    what = f"it changed mean JCT by {change(each)}"
    return f"Knowing acceptance could not be shown to be worth anything to an oracle: {what} ({names})"


def _base(policy: str) -> str:
    return policy.partition(":")[0]
