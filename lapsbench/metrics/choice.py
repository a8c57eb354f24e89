"""Which scheduler to run, by aim: what beats today's, by how much, at what price.

An oracle is no choice, nor is whoever grows without bound or left requests unfinished, nor who loses to fcfs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lapsbench.metrics.catalog import BY_NAME
from lapsbench.metrics.comparison import Comparison, ratio
from lapsbench.metrics.pool import loads, policies, pooled, select
from lapsbench.metrics.wording import finding, is_next_to_nothing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lapsbench.metrics.summary import CellSummary

Aim = Literal["mean", "tail", "goodput"]
METRIC: Mapping[Aim, str] = {"mean": "jct_mean_s", "tail": "jct_mean_s", "goodput": "goodput_rps"}
PLAIN = "fcfs"
"""What needs nothing: whoever loses to it is never recommended."""
TAIL = 1.3
"""How many times today's p99 an operator bears, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run for one aim at one load.

    Attributes:
        policy: what to run; today's where nothing is shown to be better; None where it is undecided, or nobody will do.
        undecided: all that cannot be told apart from the best of them, which comes first; empty where that is clear.
        value, low, high: the aim's metric over today's, of the policy, or of the best of the undecided.
        p99, p99_high: its p99 over today's, with the upper end of the interval.
        preemptions: per request.
        proven: whether policy and limit hold with their whole intervals.
        needs: what running it takes; None where that is not known.
        sound: how many schedulers could have been chosen.
    """

    load: float | None
    aim: Aim
    today: str
    policy: str | None = None
    undecided: tuple[str, ...] = ()
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p99: float | None = None
    p99_high: float | None = None
    preemptions: float | None = None
    proven: bool = False
    needs: tuple[str, ...] | None = None
    sound: int = 0

    @property
    def best(self) -> str | None:
        """What the numbers are about."""
        return self.policy or next(iter(self.undecided), None)

    @property
    def is_new(self) -> bool:
        """Whether it asks for another scheduler than today's."""
        return self.policy not in (None, self.today)


def choices(
    cells: Sequence[CellSummary],
    baseline: str,
    *,
    tail: float = TAIL,
    goodput: bool = False,
    needs: Mapping[str, tuple[str, ...]],
) -> tuple[Choice, ...]:
    """Choose for every load and aim; nothing where there are not two schedulers to choose from, and a today's."""
    aims: tuple[Aim, ...] = ("mean", "tail", "goodput") if goodput else ("mean", "tail")
    found = []
    for load in loads(cells):
        here = [cell for cell in cells if cell.load == load and not cell.oracle]
        names = policies(here)
        today = baseline if baseline in names else PLAIN
        if len(names) > 1 and today in names:
            field = _Field(here, load, today, tail, needs)
            found += [field.choose(aim) for aim in aims]
    return tuple(found)


def grows(cells: Sequence[CellSummary]) -> bool:
    """Whether at least half of the seeds pile up requests."""
    piling = [bool(cell.saturation and cell.saturation.label != "STABLE") for cell in cells]
    return 2 * sum(piling) >= len(piling) > 0


@dataclass(frozen=True, slots=True)
class _Field:
    """The real schedulers at one load."""

    cells: Sequence[CellSummary]
    load: float | None
    today: str
    tail: float
    needs: Mapping[str, tuple[str, ...]]

    def choose(self, aim: Aim) -> Choice:
        """Choose for one aim."""
        field = list(self._field(aim))
        if not field:
            return Choice(self.load, aim, self.today)
        metric = METRIC[aim]
        best, *others = sorted(field, key=lambda name: self._cost(name, metric))
        rivals = [best, *(name for name in others if not _differs(self._ratio(name, best, metric)))]
        if self.today in field:
            if not self._beats(best, metric):
                return self._settled(aim, self.today, rivals, len(field))
            limit = self._cost(self.today, metric)
            rivals = [name for name in rivals if self._cost(name, metric) < limit]
        return self._settled(aim, None if len(rivals) > 1 else best, rivals, len(field))

    def _settled(self, aim: Aim, policy: str | None, undecided: Sequence[str], sound: int) -> Choice:
        who = policy or undecided[0]
        worth, p99 = (self._ratio(who, self.today, metric) for metric in (METRIC[aim], "jct_p99_s"))
        within = aim != "tail" or (p99.high is not None and p99.high <= self.tail)
        return Choice(
            self.load,
            aim,
            self.today,
            policy,
            tuple(undecided) if len(undecided) > 1 else (),
            worth.ratio,
            worth.low,
            worth.high,
            p99.ratio,
            p99.high,
            pooled(self._of(who), "preemptions_per_request").value,
            proven=policy is not None and within,
            needs=self.needs.get(who),
            sound=sound,
        )

    def _field(self, aim: Aim) -> Iterator[str]:
        """Yield who may be chosen."""
        sound = [name for name in policies(self.cells) if self._is_sound(name, METRIC[aim])]
        if aim == "tail" and self.today not in sound:
            return  # the p99 of a queue that grows is no yardstick
        for name in sound:
            if PLAIN in sound and finding(self._ratio(name, PLAIN, METRIC[aim])) == "loss":
                continue
            p99 = self._ratio(name, self.today, "jct_p99_s").ratio if aim == "tail" else 0.0
            if p99 is not None and p99 <= self.tail:
                yield name

    def _is_sound(self, name: str, metric: str) -> bool:
        cells = self._of(name)
        finished = not any(cell.unfinished for cell in cells)
        return finished and not grows(cells) and pooled(cells, metric).value is not None

    def _beats(self, name: str, metric: str) -> bool:
        """Whether it is shown to be better than today's, and by more than nothing."""
        worth = self._ratio(name, self.today, metric)
        return finding(worth) == "gain" and not is_next_to_nothing(worth)

    def _ratio(self, name: str, other: str, metric: str) -> Comparison:
        return ratio(self.cells, name, other, self.load, metric)

    def _cost(self, name: str, metric: str) -> float:
        value = pooled(self._of(name), metric).value or 0.0
        return -value if BY_NAME[metric].better == "higher" else value

    def _of(self, name: str) -> tuple[CellSummary, ...]:
        return select(self.cells, name, self.load)


def _differs(found: Comparison) -> bool:
    """Whether the interval excludes no difference."""
    return found.low is not None and found.high is not None and not found.low <= 1 <= found.high
