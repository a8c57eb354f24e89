"""One tuning from question to proof: search, final, proof; every trial is kept as it is finished. Prints nothing."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

from joblib import Parallel, delayed

from lapsbench.errors import UsageError
from lapsbench.metrics.choice import PLAIN, keeps_up
from lapsbench.metrics.pool import pooled
from lapsbench.planning import plan, settled
from lapsbench.policies.binding import compiled
from lapsbench.policies.registry import find
from lapsbench.policies.uses import wants_today
from lapsbench.policies.work import OF_TODAY
from lapsbench.traces.shape import cut
from lapsbench.tuning.bench import Bench
from lapsbench.tuning.folder import TuneFolder, key_of
from lapsbench.tuning.limits import against
from lapsbench.tuning.proof import FINALISTS, RIVALS, Proof, Rival, Side, chosen, closest, comparison_of, finalists
from lapsbench.tuning.search import search
from lapsbench.tuning.space import PATIENCE, Space
from lapsbench.tuning.traffic import split
from lapsbench.tuning.trials import Trial, TrialsFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from lapsbench.metrics.summary import CellSummary
    from lapsbench.sim.sweep import Plan
    from lapsbench.tuning.asked import Asked
    from lapsbench.tuning.limits import Judged
    from lapsbench.tuning.space import Setting
    from lapsbench.tuning.traffic import Look
    from lapsbench.tuning.trials import Phase


class Tuner:
    """A question made ready to answer; `close` lets go of its folder.

    Args:
        asked: the question.
        out: where everything goes.
        say: told what is being waited for.

    Attributes:
        plan: trace, profile and predictor; its engine is today's.
        rate_rps: what every trial is offered; None: the trace's own clock.
    """

    def __init__(self, asked: Asked, out: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.asked = asked
        whole = asked.scenario.model_copy(update={"window": None, "limit": None})
        self.plan: Plan = plan(whole)[0]
        self.space = Space(asked.over, settled(asked.scenario), self.plan.profile)
        scenario = asked.scenario
        with ExitStack() as held:
            # before anything is compiled or replayed: a bad --out should fail at once
            self.folder = held.enter_context(TuneFolder(out, key_of(asked, self.plan, self.space)))
            self.trials = TrialsFile(self.folder.path / "trials.parquet")
            held.callback(self.trials.flush)
            part = cut(self.plan.trace, window=scenario.window, limit=scenario.limit)
            self.requests = len(part)
            self.bench = Bench(
                self.plan.profile, self.plan.predictor, self.plan.history, scenario.parsed_slo, self.plan.engine
            )
            say("measuring today's setting")
            self.bench.measure_capacity(part, scenario.seed)
            self.load = scenario.loads[0]
            self.rate_rps = scenario.rate if self.load is None else self.load * self.bench.capacity_rps
            self.traffic = split(self.plan.trace, scenario.window, scenario.limit, self.rate_rps, self.plan.seeds)
            self._measure_patience()
            for policy in (*self.space.policies_tried(), *map(find, RIVALS)):
                compiled(policy)
            self._references: dict[str, Mapping[str, Sequence[CellSummary]]] = {}
            self.close = held.pop_all().close

    def run(
        self,
        jobs: int = 1,
        say: Callable[[str], None] = lambda _: None,
        progress: Callable[[float], None] | None = None,
    ) -> Proof:
        """Search, and prove what was found; what an earlier command has tried is not tried again."""
        tell = progress or (lambda _: None)
        looks = self.traffic.looks

        def evaluate(settings: Sequence[Setting], look: int) -> list[Trial]:
            found: list[Trial] = []
            for start in range(0, len(settings), jobs):
                group = list(settings[start : start + jobs])
                allowed = self._allowed(group, looks[look])
                found += self._evaluate(group[:allowed], look, "search", jobs)
                tell(self.asked.budget.share(len(self.trials.rows)))
                if allowed < len(group):
                    break
            return found

        say("searching")
        tried = search(self.space, len(looks), evaluate, self.asked.scenario.seed)
        say("looking at the best in full")
        self._evaluate([tried[key] for key in finalists(self.trials.rows, len(looks))], len(looks) - 1, "final", jobs)
        self.trials.settle()
        say("replaying held-out traffic")
        return self._proof(tried)

    @property
    def remarks(self) -> list[str]:
        """What to say beside the result."""
        found = [f"note: {note}" for note in self.plan.trace.notes]
        found += [self.folder.remark] if self.folder.remark else []
        if self.trials.resumed:
            found.append(f"resumed: {self.trials.resumed} of {len(self.trials.rows)} trials were already there")
        return found

    def _allowed(self, group: Sequence[Setting], look: Look) -> int:
        """Return how many of a group the budget still has room for."""
        traffic, done = self.traffic, len(self.trials.rows)
        rest = FINALISTS * traffic.whole.requests + (2 + len(RIVALS)) * traffic.held_out.requests
        room = [
            self.asked.budget.allows(done + place, (place + 1) * look.requests, rest) for place in range(len(group))
        ]
        return room.index(False) if False in room else len(group)

    def _evaluate(self, settings: Sequence[Setting], look: int, phase: Phase, jobs: int) -> list[Trial]:
        """Try settings side by side, unless they are known; what is finished is on disk when this returns."""
        known = {each.key: self.trials.known(each, look) for each in settings}
        new = [each for each in settings if known[each.key] is None]
        here = self.traffic.looks[look]
        references, began = self.references(here) if new else {}, time.monotonic()
        tasks = (delayed(self._try)(each, look, references, phase) for each in new)
        results = []
        with closing(Parallel(n_jobs=jobs, prefer="threads", return_as="generator")(tasks)) as done:
            for setting in settings:
                old = known[setting.key]
                trial = next(done) if old is None else replace(old, phase=phase)
                self.trials.resumed += old is not None
                self.trials.add(trial)
                results.append(trial)
            next(done, None)  # lets joblib end as it wants to
        self.asked.budget.took(len(new) * here.requests, time.monotonic() - began)
        return results

    def _try(self, setting: Setting, look: int, references: Mapping[str, Sequence[CellSummary]], phase: Phase) -> Trial:
        here = self.traffic.looks[look]
        cells = self._cells(setting, here)
        worth = against(cells, references["today"], self.asked.minimize)
        partial = any(cell.unfinished for cell in cells)
        return Trial(
            phase=phase,
            setting=setting.key,
            policy=setting.policy,
            look=look,
            requests=len(here.trace),
            seeds=len(here.seeds),
            keeps_up=keeps_up(cells, math.inf),
            value=None if partial else pooled(cells, self.asked.minimize).value,
            ratio=worth.ratio,
            low=worth.low,
            high=worth.high,
            tail=against(cells, references["today"], "jct_p99_s").ratio,
            limits=self._judged(cells, references),
        )

    def _cells(self, setting: Setting, look: Look) -> tuple[CellSummary, ...]:
        return self.bench.cells(self.space.engine(setting), setting.policy, look)

    def references(self, look: Look) -> Mapping[str, Sequence[CellSummary]]:
        """Return the cells of today's setting, and of fcfs on its engine, replayed once."""
        if look.name not in self._references:
            today = self.space.today
            began = time.monotonic()
            cells = self._cells(today, look)
            fcfs = cells if today.policy == PLAIN else self._cells(today.under(PLAIN), look)
            self.asked.budget.took(look.requests * (1 + (fcfs is not cells)), time.monotonic() - began)
            self._references[look.name] = {"today": cells, "fcfs": fcfs}
        return self._references[look.name]

    def _measure_patience(self) -> None:
        """Find the patience of policies that were given none: a setting that is to be run needs a number."""
        varied = {each.policy for each in self.space.constants if each.key == PATIENCE}
        left = [policy for policy in self.space.policies_tried() if policy.name not in varied]
        asking = [policy for policy in (find(self.space.base.policies[0]), *left) if wants_today(policy)]
        if not asking:
            return
        today = self.bench.measure_today(self.traffic.whole)
        self.space.patience_s = OF_TODAY * today.p99_s
        if not today.keeps_up:
            raise UsageError(
                "counts its patience in today's fcfs p99, and fcfs does not keep up",
                where=f"policy {asking[0].name}",
                hint=f'--over "{asking[0].name}:{PATIENCE}=5..60"',
            )

    def _proof(self, tried: Mapping[str, Setting]) -> Proof:
        looks, today, rows = len(self.traffic.looks), self.space.today, self.trials.rows
        there = self.references(self.traffic.whole)
        found = chosen(rows, looks, growing=not keeps_up(there["today"], math.inf))
        if found is None:
            return Proof(today, None, closest(rows, looks, today.key))
        best, held, metric = tried[found.setting], self.traffic.held_out, self.asked.minimize
        here, cells = self.references(held), self._cells(best, held)
        chosen_on = Side(
            self.traffic.whole,
            pooled(there["today"], metric).value,
            found.value,
            comparison_of(found, today.policy, metric),
            found.limits,
        )
        held_out = Side(
            held,
            pooled(here["today"], metric).value,
            pooled(cells, metric).value,
            against(cells, here["today"], metric),
            self._judged(cells, here),
        )
        rivals = tuple(self._rivals(best, cells))
        keep_up = keeps_up(here["today"], math.inf), keeps_up(cells, math.inf)
        return Proof(today, best, None, chosen_on, held_out, rivals, keep_up)

    def _rivals(self, best: Setting, cells: Sequence[CellSummary]) -> Iterator[Rival]:
        """Hold the best against others in its place, unless one of them is what runs today."""
        held = self.traffic.held_out
        for policy in RIVALS:
            other = best.under(policy)
            if other.key not in (best.key, self.space.today.key):
                theirs = self._cells(other, held)
                judged = self._judged(theirs, self.references(held))
                yield Rival(policy, against(cells, theirs, self.asked.minimize), judged)

    def _judged(
        self, cells: Sequence[CellSummary], references: Mapping[str, Sequence[CellSummary]]
    ) -> tuple[Judged, ...]:
        return tuple(limit.judge(cells, references) for limit in self.asked.limits)
