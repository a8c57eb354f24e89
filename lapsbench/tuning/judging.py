"""Judges settings against today's: what a trial is, and what the proof is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lapsbench.metrics.choice import PLAIN, keeps_up
from lapsbench.metrics.pool import pooled
from lapsbench.tuning.limits import against
from lapsbench.tuning.trials import Trial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lapsbench.metrics.comparison import Comparison
    from lapsbench.metrics.summary import CellSummary
    from lapsbench.tuning.asked import Asked
    from lapsbench.tuning.limits import Judged
    from lapsbench.tuning.shots import Replays
    from lapsbench.tuning.space import Setting, Space
    from lapsbench.tuning.traffic import Look, Traffic
    from lapsbench.tuning.trials import Phase

    Cells = Sequence[CellSummary]


@dataclass(slots=True)
class Judge:
    """Holds settings to a question, on its traffic."""

    asked: Asked
    space: Space
    traffic: Traffic
    replays: Replays
    _references: dict[str, Mapping[str, Cells]] = field(default_factory=dict)

    def cells(self, setting: Setting, look: Look) -> Cells:
        """Replay a setting on a look, a cell a seed."""
        return self.replays.all([(setting, look)])[0]

    def references(self, look: Look) -> Mapping[str, Cells]:
        """Return the cells of today's setting, and of fcfs on its engine, replayed once."""
        if look.name not in self._references:
            today = self.space.today
            wanted = [today] if today.policy == PLAIN else [today, today.under(PLAIN)]
            found = self.replays.all([(each, look) for each in wanted])
            self._references[look.name] = {"today": found[0], "fcfs": found[-1]}
        return self._references[look.name]

    def change(self, cells: Cells, others: Cells) -> Comparison:
        """Compare what is minimised."""
        return against(cells, others, self.asked.minimize)

    def limits(self, cells: Cells, look: Look) -> tuple[Judged, ...]:
        """Judge every constraint."""
        return tuple(limit.judge(cells, self.references(look)) for limit in self.asked.limits)

    def value(self, cells: Cells) -> float | None:
        """Return what is minimised; None where requests were left unfinished: those were the slowest."""
        return None if any(cell.unfinished for cell in cells) else pooled(cells, self.asked.minimize).value

    def trial(self, setting: Setting, number: int, phase: Phase, cells: Cells) -> Trial:
        """Judge a setting by its cells on the look of that number."""
        look = self.traffic.looks[number]
        today = self.references(look)["today"]
        worth = self.change(cells, today)
        return Trial(
            phase=phase,
            setting=setting.key,
            policy=setting.policy,
            look=number,
            requests=len(look.trace),
            seeds=len(look.seeds),
            keeps_up=keeps_up(cells, math.inf),
            value=self.value(cells),
            ratio=worth.ratio,
            low=worth.low,
            high=worth.high,
            tail=against(cells, today, "jct_p99_s").ratio,
            limits=self.limits(cells, look),
        )
