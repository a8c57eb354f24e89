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
from lapsbench.tuning.proof import RIVALS, Chosen, Proof, Rival, proven
from lapsbench.tuning.search import search
from lapsbench.tuning.space import PATIENCE, Space
from lapsbench.tuning.traffic import split
from lapsbench.tuning.trials import Trial, TrialsFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

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
            self.judge = Judge(asked, self.space, self.traffic, self.bench)
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
        best = self._chosen(tried, jobs)
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

    def _evaluate(self, settings: Sequence[Setting], look: int, phase: Phase, jobs: int) -> list[Trial]:
        """Try settings side by side, unless they are known; what is finished is on disk in seconds."""
        known = {each.key: self.trials.known(each, look) for each in settings}
        new = [each for each in settings if known[each.key] is None]
        here = self.traffic.looks[look]
        if new:
            self.judge.references(here)  # before several ask for them at once
        began = time.monotonic()
        tasks = (delayed(self.judge.trial)(each, look, phase) for each in new)
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

    def _chosen(self, tried: Mapping[str, Setting], jobs: int) -> Chosen | None:
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
        (trial,) = there or self._evaluate([plain], last, "final", jobs)
        change = self.judge.change(self.judge.cells(setting, whole), self.judge.cells(plain, whole))
        if matters(change) or trial.beyond or not beats(trial):
            return Chosen(setting, found)
        return Chosen(plain, trial, Rival(setting.policy, change, found.limits))

    def _measure_patience(self) -> None:
        """Find the patience of policies that were given none: a setting that is to be run needs a number."""
        constants = [each for each in self.space.constants if each.key == PATIENCE]
        varied = {each.policy for each in constants if min(map(float, each.ends)) > 0}
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
