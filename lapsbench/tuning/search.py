"""The search: TPE asks for settings in batches, and successive halving says which of a batch are looked at longer.

The sequence of trials depends on the seed and on what trials find, not on how long they take, how many are run at a
time, or when the search is stopped: with less to spend, a prefix of it is run.

TPE: Bergstra et al., NeurIPS 2011. Halving within batches, against all that were looked at so far: ASHA, Li et al.,
MLSys 2020, without going back to earlier batches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import optuna

from lapsbench.tuning.limits import UNBORNE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lapsbench.tuning.space import Setting, Space
    from lapsbench.tuning.trials import Trial

BATCH = 8
"""Settings that are asked for before any of them is told: fixed, or `--jobs` would change what is tried."""
PROMOTED = 4
"""Of so many, one is looked at longer."""
STALE = 5
"""Batches without a setting that is new: then there are none left."""


def search(
    space: Space, looks: int, evaluate: Callable[[Sequence[Setting], int], list[Trial]], seed: int
) -> dict[str, Setting]:
    """Try settings until the budget or the settings end; return those that were tried, by key.

    Args:
        space: the settings there are.
        looks: how many looks there are, of growing length.
        evaluate: tries settings on a look; fewer results than settings say that the budget is spent.
        seed: of the sampler.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    for start in space.starts():
        study.enqueue_trial(start)
    tried: dict[str, Setting] = {}
    found: list[dict[str, Trial]] = [{} for _ in range(looks)]
    stale = 0
    while stale < STALE:
        asked = [study.ask() for _ in range(BATCH)]
        settings = [space.setting(trial) for trial in asked]
        there = {each.key: each for each in settings}
        stale = 0 if there.keys() - found[0].keys() else stale + 1
        tried |= there
        alive = list(there)
        for look in range(looks):
            new = [there[key] for key in alive if key not in found[look]]
            results = evaluate(new, look)
            found[look] |= {each.setting: each for each in results}
            if len(results) < len(new):
                return tried
            alive = _promoted(alive, found[look])
        for trial, setting in zip(asked, settings, strict=True):
            _tell(study, trial, next(each[setting.key] for each in reversed(found) if setting.key in each))
    return tried


def _promoted(alive: Sequence[str], found: Mapping[str, Trial]) -> list[str]:
    """Return those of a batch that are among the best of all that had this look."""
    best = sorted(found.values(), key=lambda each: each.score)[: math.ceil(len(found) / PROMOTED)]
    names = {each.setting for each in best if each.ratio is not None}
    return [key for key in alive if key in names]


def _tell(study: optuna.Study, trial: optuna.Trial, found: Trial) -> None:
    for number, each in enumerate(found.limits):
        trial.set_constraint(f"limit {number}", each.beyond)
    study.tell(trial, UNBORNE if found.ratio is None else found.ratio)
