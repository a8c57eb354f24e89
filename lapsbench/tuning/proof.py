"""Which setting to run, and the proof: what was chosen on one part of the traffic, replayed on the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lapsbench.metrics.comparison import Comparison
from lapsbench.metrics.wording import finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lapsbench.tuning.limits import Judged
    from lapsbench.tuning.space import Setting
    from lapsbench.tuning.traffic import Look
    from lapsbench.tuning.trials import Trial

RIVALS = ("fcfs", "srpt")
"""Policies that the best setting is held against in its own batch and drafts: what of it is the policy's doing?"""
FINALISTS = 3
"""So many settings at least are looked at in full, where that many keep the constraints."""

Answer = Literal["better", "nothing", "overfitted", "broken"]


@dataclass(frozen=True, slots=True)
class Side:
    """The best setting beside today's on one part of the traffic.

    Attributes:
        today, best: what is minimised.
        change: best over today's.
    """

    look: Look
    today: float | None
    best: float | None
    change: Comparison
    limits: tuple[Judged, ...]


@dataclass(frozen=True, slots=True)
class Rival:
    """The best setting under another policy, on held-out traffic; `change`: the best over it."""

    policy: str
    change: Comparison
    limits: tuple[Judged, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """What came out.

    Attributes:
        best: what was chosen; None where nothing beat today's setting.
        closest: then, what came closest.
        keep_up: whether today's setting does on held-out traffic, and whether the best does.
    """

    today: Setting
    best: Setting | None
    closest: Trial | None = None
    chosen_on: Side | None = None
    held_out: Side | None = None
    rivals: tuple[Rival, ...] = ()
    keep_up: tuple[bool, bool] = (True, True)

    @property
    def answer(self) -> Answer:
        """What to say."""
        if self.held_out is None:
            return "nothing"
        if finding(self.held_out.change) != "gain":
            return "overfitted"
        return "better" if all(each.kept for each in self.held_out.limits) else "broken"

    @property
    def run(self) -> Setting:
        """What to run: the best, where it is proven; else what runs today."""
        return self.best if self.best is not None and self.answer == "better" else self.today

    @property
    def differs(self) -> Literal["", "less", "more"]:
        """Whether held-out traffic shows less of a gain than what it was chosen on, or more, beyond both intervals."""
        if self.chosen_on is None or self.held_out is None:
            return ""
        there, here = self.chosen_on.change, self.held_out.change
        if there.low is None or there.high is None or here.low is None or here.high is None:
            return ""
        return "less" if here.low > there.high else "more" if here.high < there.low else ""


def finalists(trials: Sequence[Trial], looks: int) -> list[str]:
    """Return the settings that have yet to be looked at in full: the most looked at first, of these the best."""
    last = looks - 1
    full = {each.setting for each in trials if each.look == last}
    ready = sum(each.beyond == 0 and each.ratio is not None for each in trials if each.look == last)
    others = [each for each in trials if each.setting not in full and each.ratio is not None]
    ordered = sorted(others, key=lambda each: (-each.look, each.score))
    return list(dict.fromkeys(each.setting for each in ordered))[: max(0, FINALISTS - ready)]


def chosen(trials: Iterable[Trial], looks: int, *, growing: bool) -> Trial | None:
    """Return the best of those looked at in full that beat today's; keeping the limits with whole intervals first.

    `growing`: whether the queue grows under today's setting too; else nobody is chosen under whom it does.
    """
    full = [each for each in trials if each.look == looks - 1 and (each.keeps_up or growing) and beats(each)]
    proven = [each for each in full if all(limit.proven for limit in each.limits)]
    kept = proven or [each for each in full if each.beyond == 0]
    return min(kept, key=lambda each: each.ratio or 0.0, default=None)


def closest(trials: Iterable[Trial], looks: int, today: str) -> Trial | None:
    """Return who came closest to beating today's, of those looked at in full."""
    full = [each for each in trials if each.look == looks - 1 and each.ratio is not None and each.setting != today]
    return min(full, key=lambda each: each.score, default=None)


def beats(trial: Trial) -> bool:
    """Whether it is shown to be better than today's: with its interval, where it has one."""
    bound = trial.high if trial.high is not None else trial.ratio
    return bound is not None and bound < 1


def comparison_of(trial: Trial, today: str, metric: str) -> Comparison:
    """Return a trial's ratio as a comparison."""
    method: Literal["seeds", "none"] = "none" if trial.low is None else "seeds"
    low, high = trial.low, trial.high
    return Comparison(trial.policy, today, None, metric, trial.ratio, low, high, method, trial.seeds)
