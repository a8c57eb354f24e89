"""Which trials go on and which setting is chosen: rules on trials, without replaying anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.metrics.wording import SAME, finding, is_next_to_nothing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lapsbench.metrics.comparison import Comparison
    from lapsbench.tuning.trials import Trial

FINALISTS = 3
"""So many settings at least are looked at in full, where that many keep the constraints."""


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
    """Whether it is shown to be better than today's, and by more than nothing: with its interval, where it has one."""
    if trial.low is None or trial.high is None:
        return trial.ratio is not None and trial.ratio < 1 - SAME
    return trial.high < 1 and trial.low < 1 - SAME


def matters(change: Comparison) -> bool:
    """Whether one policy is shown to be better than another, and by more than nothing."""
    return finding(change) == "gain" and not is_next_to_nothing(change)
