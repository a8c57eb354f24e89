"""Which setting to run, and the proof: what was chosen on one part of the traffic, replayed on the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lapsbench.metrics.choice import keeps_up
from lapsbench.metrics.comparison import Comparison
from lapsbench.tuning.choosing import matters

if TYPE_CHECKING:
    from lapsbench.tuning.judging import Judge
    from lapsbench.tuning.limits import Judged
    from lapsbench.tuning.space import Setting
    from lapsbench.tuning.traffic import Look
    from lapsbench.tuning.trials import Trial

RIVALS = ("fcfs", "srpt")
"""Policies that the best setting is held against in its own batch and drafts: what of it is the policy's doing?"""
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
    """A policy beside another in the same batch and drafts; `change`: of one over the other."""

    policy: str
    change: Comparison
    limits: tuple[Judged, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was chosen, and its trial; `plainer`: the policy that fcfs took the place of."""

    setting: Setting
    trial: Trial
    plainer: Rival | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """What came out.

    Attributes:
        best: what was chosen; None where nothing beat today's setting.
        closest: then, what came closest.
        plainer: of the policy that was first found, and is not shown to beat fcfs in its place where it was chosen.
        keep_up: whether today's setting does on held-out traffic, and whether the best does.
    """

    today: Setting
    best: Setting | None
    closest: Trial | None = None
    chosen_on: Side | None = None
    held_out: Side | None = None
    rivals: tuple[Rival, ...] = ()
    keep_up: tuple[bool, bool] = (True, True)
    plainer: Rival | None = None

    @property
    def answer(self) -> Answer:
        """What to say."""
        if self.held_out is None:
            return "nothing"
        if not matters(self.held_out.change):
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


def proven(judge: Judge, found: Chosen) -> Proof:
    """Replay what was chosen on held-out traffic, beside today's setting and its rivals."""
    today, best, trial = judge.space.today, found.setting, found.trial
    whole, held = judge.traffic.whole, judge.traffic.held_out
    there, here = judge.references(whole)["today"], judge.references(held)["today"]
    others = [other for other in map(best.under, RIVALS) if other.key not in (best.key, today.key)]
    cells, *theirs = judge.replays.all([(each, held) for each in (best, *others)])
    compared = comparison_of(trial, today.policy, judge.asked.minimize)
    rivals = [
        Rival(other.policy, judge.change(cells, found), judge.limits(found, held))
        for other, found in zip(others, theirs, strict=True)
    ]
    return Proof(
        today,
        best,
        chosen_on=Side(whole, judge.value(there), trial.value, compared, trial.limits),
        held_out=Side(
            held, judge.value(here), judge.value(cells), judge.change(cells, here), judge.limits(cells, held)
        ),
        rivals=tuple(rivals),
        keep_up=(keeps_up(here, math.inf), keeps_up(cells, math.inf)),
        plainer=found.plainer,
    )


def comparison_of(trial: Trial, today: str, metric: str) -> Comparison:
    """Return a trial's ratio as a comparison."""
    method: Literal["seeds", "none"] = "none" if trial.low is None else "seeds"
    low, high = trial.low, trial.high
    return Comparison(trial.policy, today, None, metric, trial.ratio, low, high, method, trial.seeds)
