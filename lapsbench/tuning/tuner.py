"""One tuning from question to proof: search, final, proof; every trial is kept as it is finished. Prints nothing."""

from __future__ import annotations

import math
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

from lapsbench.acceptance.cut import remark as cut_short
from lapsbench.errors import UsageError
from lapsbench.metrics.choice import PLAIN, keeps_up
from lapsbench.planning import plan, settled
from lapsbench.policies.binding import compiled
from lapsbench.policies.registry import find
from lapsbench.policies.uses import wants_today
from lapsbench.policies.work import OF_TODAY
from lapsbench.traces.shape import cut
from lapsbench.tuning.bench import Bench
from lapsbench.tuning.choosing import FINALISTS, beats, chosen, closest, finalists, matters
from lapsbench.tuning.folder import TuneFolder, key_of
from lapsbench.tuning.judging import Judge
from lapsbench.tuning.over import named
from lapsbench.tuning.proof import RIVALS, Chosen, Proof, Rival, proven
from lapsbench.tuning.search import search
from lapsbench.tuning.shots import Replays
from lapsbench.tuning.space import PATIENCE, Space
from lapsbench.tuning.traffic import split
from lapsbench.tuning.trials import Trial, TrialsFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lapsbench.machines.machines import Machines
    from lapsbench.sim.sweep import Plan
    from lapsbench.tuning.asked import Asked
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
            self.close = held.pop_all().close

    def run(
        self,
        jobs: int = 1,
        say: Callable[[str], None] = lambda _: None,
        progress: Callable[[float], None] | None = None,
        machines: Machines | None = None,
    ) -> Proof:
        """Search, and prove what was found; what an earlier command has tried is not tried again.

        Args:
            jobs: cells at a time.
            say: told what is being done.
            progress: told what share of the budget is spent.
            machines: who replays the cells in place of this process.
        """
        tell = progress or (lambda _: None)
        looks, budget = self.traffic.looks, self.asked.budget
        replays = Replays(self.space, self.traffic, self.bench, budget, jobs, machines)
        self.judge = Judge(self.asked, self.space, self.traffic, replays)

        def evaluate(settings: Sequence[Setting], look: int) -> list[Trial]:
            found: list[Trial] = []
            # time is looked at in between; how many trials are left is known beforehand
            at_a_time = replays.at_a_time if budget.trials is None else len(settings) or 1
            for start in range(0, len(settings), at_a_time):
                group = list(settings[start : start + at_a_time])
                allowed = self._allowed(group, looks[look])
                found += self._evaluate(group[:allowed], look, "search")
                tell(budget.share(len(self.trials.rows)))
                if allowed < len(group):
                    break
            return found

        say("searching")
        tried = search(self.space, len(looks), evaluate, self.asked.scenario.seed)
        say("looking at the best in full")
        self._evaluate([tried[key] for key in finalists(self.trials.rows, len(looks))], len(looks) - 1, "final")
        best = self._chosen(tried)
        self.trials.settle()
        say("replaying held-out traffic")
        today = self.space.today
        if best is None:
            return Proof(today, None, closest(self.trials.rows, len(looks), today.key))
        return proven(self.judge, best)

    @property
    def remarks(self) -> list[str]:
        """What to say beside the result."""
        found = [f"note: {note}" for note in self.plan.trace.notes]
        found += [self.folder.remark] if self.folder.remark else []
        found += cut_short(self.plan.profile, self.space.most_drafts)
        if self.trials.resumed:
            found.append(f"resumed: {self.trials.resumed} of {len(self.trials.rows)} trials were already there")
        return found

    def _allowed(self, group: Sequence[Setting], look: Look) -> int:
        """Return how many of a group the budget still has room for."""
        traffic, done = self.traffic, len(self.trials.rows)
        rest = (FINALISTS + 3) * traffic.whole.requests + (2 + len(RIVALS)) * traffic.held_out.requests
        room = [
            self.asked.budget.allows(done + place, (place + 1) * look.requests, rest) for place in range(len(group))
        ]
        return room.index(False) if False in room else len(group)

    def _evaluate(self, settings: Sequence[Setting], look: int, phase: Phase) -> list[Trial]:
        """Try settings side by side, unless they are known; what is finished is on disk in seconds."""
        new = [each for each in settings if self.trials.known(each, look) is None]
        here = self.traffic.looks[look]
        if new:
            self.judge.references(here)  # which may be among them
        with closing(self.judge.replays.each([(each, here) for each in new])) as done:
            for number, cells in done:
                self.trials.keep(self.judge.trial(new[number], look, phase, cells))
        self.trials.resumed += len(settings) - len(new)
        results = []
        for setting in settings:
            trial = self.trials.known(setting, look)
            assert trial is not None  # noqa: S101 - there by now
            results.append(replace(trial, phase=phase))
            self.trials.add(results[-1])
        return results

    def _chosen(self, tried: Mapping[str, Setting]) -> Chosen | None:
        """Choose among what was looked at in full; where the policy makes no difference, fcfs in its place."""
        last, whole = len(self.traffic.looks) - 1, self.traffic.whole
        growing = not keeps_up(self.judge.references(whole)["today"], math.inf)
        found = chosen(self.trials.rows, last + 1, growing=growing)
        if found is None:
            return None
        setting = tried[found.setting]
        if self.space.policies is None or setting.policy in (PLAIN, self.space.today.policy):
            return Chosen(setting, found)
        plain = setting.under(PLAIN)
        there = [each for each in self.trials.rows if (each.setting, each.look) == (plain.key, last)]
        (trial,) = there or self._evaluate([plain], last, "final")
        change = self.judge.change(*self.judge.replays.all([(setting, whole), (plain, whole)]))
        if matters(change) or trial.beyond or not beats(trial):
            return Chosen(setting, found)
        return Chosen(plain, trial, Rival(setting.policy, change, found.limits))

    def _measure_patience(self) -> None:
        """Find the patience of policies that were given none: a setting that is to be run needs a number."""
        constants = [each for each in self.space.constants if each.key == PATIENCE]
        varied = {each.policy for each in constants if min(map(float, each.ends)) > 0}
        left = [policy for policy in self.space.policies_tried() if named(policy) not in varied]
        asking = [policy for policy in (find(self.space.base.policies[0]), *left) if wants_today(policy)]
        if not asking:
            return
        today = self.bench.measure_today(self.traffic.whole)
        self.space.patience_s = OF_TODAY * today.p99_s
        if not today.keeps_up:
            raise UsageError(
                "counts its patience in today's fcfs p99, and fcfs does not keep up",
                where=f"policy {named(asking[0])}",
                hint=f'--over "{named(asking[0])}:{PATIENCE}=5..60"',
            )
