"""The settings there are: what `--over` varies, and whatever else stays as it is today."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lapsbench.drafting import drafting_of
from lapsbench.drafts.registry import FIXED
from lapsbench.drafts.registry import find as controller
from lapsbench.engines import engine_of, misplaced
from lapsbench.errors import UsageError
from lapsbench.policies.registry import find, spec_of
from lapsbench.policies.uses import wants_today
from lapsbench.schedules import BY_BATCH, written
from lapsbench.sim.best_drafts import ceiling, flat, schedule
from lapsbench.tuning.over import FLAG, named, policy_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optuna import Trial

    from lapsbench.core import Controller, Engine, Policy, Profile
    from lapsbench.scenario import Scenario
    from lapsbench.tuning.over import Dimension, Value

PATIENCE = "patience_s"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        scenario: everything; its one policy is this setting's.
        values: what may vary, as people read it.
    """

    scenario: Scenario
    values: tuple[tuple[str, Value], ...]

    @property
    def policy(self) -> str:
        """The policy, with its constants."""
        return self.scenario.policies[0]

    @property
    def key(self) -> str:
        """What it is known by: as JSON."""
        return json.dumps(dict(self.values))

    def under(self, policy: str) -> Setting:
        """Return the same under another policy."""
        values = (("policy", policy), *((key, value) for key, value in self.values if key != "policy"))
        return Setting(self.scenario.model_copy(update={"policies": (policy,)}), values)

    def __str__(self) -> str:
        """Return it in words."""
        return ", ".join(str(value) if key == "policy" else f"{key} {value}" for key, value in self.values)


class Space:
    """All settings that may be tried.

    Args:
        dimensions: what varies.
        base: today's setting, everything of its engine filled in, with its one policy.
        profile: whose costs and acceptance count.
        patience_s: of policies that are given none, once somebody knows it.

    Raises:
        UsageError: a dimension that no policy has, or a value that this engine or profile does not take.
    """

    def __init__(self, dimensions: Sequence[Dimension], base: Scenario, profile: Profile) -> None:
        self.base, self.profile = base, profile
        self.patience_s = 0.0
        self.settings = [each for each in dimensions if not each.policy and each.key != "policy"]
        self.settings.sort(key=lambda each: each.key != "drafts")  # whether others count depends on it
        self.constants = [each for each in dimensions if each.policy]
        self.policies = next((each for each in dimensions if each.key == "policy" and not each.policy), None)
        self.specs = [str(each) for each in self.policies.choices] if self.policies else [base.policies[0]]
        self._schedules: dict[int, str] = {}
        self._check()

    @property
    def today(self) -> Setting:
        """Today's setting."""
        return self._setting(self.base.policies[0], {})

    def setting(self, trial: Trial) -> Setting:
        """Return the setting of a trial; it is asked only for what counts in it."""
        spec = str(self.policies.suggest(trial)) if self.policies else self.specs[0]
        chosen: dict[str, Value] = {}
        for each in self.settings:
            if each.key != "draft_tokens" or chosen.get("drafts", self.base.drafts) != BY_BATCH:
                chosen[each.key] = each.suggest(trial)
        found = find(spec)
        for each in self.constants:
            if each.policy == named(found) and not _says(spec, each.key):
                spec = _saying(spec, each.key, str(each.suggest(trial)))
        return self._setting(spec, chosen)

    def starts(self) -> Iterator[dict[str, Value]]:
        """Yield what to try first: today's setting under every policy, as far as it is among those that may be."""
        known = self.base.model_dump() | {"drafts": self.base.drafts or FIXED}
        same = {each.key: known[each.key] for each in self.settings if each.holds(known[each.key])}
        for spec in self.specs:
            yield same | ({"policy": spec} if self.policies else {})

    def policies_tried(self) -> list[Policy]:
        """Return every policy, without the constants that vary."""
        return [find(spec) for spec in self.specs]

    @property
    def most_drafts(self) -> int:
        """The most drafts a round that may be tried."""
        if any(BY_BATCH in each.choices for each in self.settings):
            return ceiling(self.profile)
        return max(
            self.engine(self.today).draft_tokens,
            *(int(end) for each in self.settings if each.key == "draft_tokens" for end in each.ends),
            0,
        )

    def controllers_tried(self) -> list[Controller]:
        """Return every controller of drafts."""
        varied = [each.choices for each in self.settings if each.key == "drafts"]
        names = varied[0] if varied else (self.base.drafts or FIXED,)
        return [controller(str(each)) for each in names if each != FIXED]

    def engine(self, setting: Setting) -> Engine:
        """Return the engine of a setting."""
        return engine_of(setting.scenario, self.profile, drafting_of(setting.scenario, self.profile))

    def _setting(self, spec: str, chosen: Mapping[str, Value]) -> Setting:
        update: dict[str, Any] = dict(chosen)
        if update.get("drafts", self.base.drafts if "max_batch" in update else None) == BY_BATCH:
            update["draft_tokens"] = self._schedule(update.get("max_batch", self.base.max_batch))
        spec = self._patient(spec)
        scenario = self.base.model_copy(update=update | {"policies": (spec,)})
        told = scenario.model_dump() | {"drafts": scenario.drafts or FIXED}
        keys = [each.key for each in self.settings]
        shown = dict.fromkeys(("max_batch", *keys, "draft_tokens"))
        if told["drafts"] == BY_BATCH and "drafts" in keys:
            shown.pop("draft_tokens")
        return Setting(scenario, (("policy", spec), *((key, told[key]) for key in shown)))

    def _patient(self, spec: str) -> str:
        """Return a policy with the patience that today's dashboard would give it, where it was given none."""
        found = find(spec)
        if not self.patience_s or PATIENCE not in found.parameters or not wants_today(found):
            return spec_of(found) if not found.file else spec
        return _saying(spec, PATIENCE, f"{self.patience_s:.3g}")

    def _schedule(self, max_batch: int) -> str:
        """Return the best drafts by batch; for vLLM without bands of context, which it does not know."""
        best = schedule if self.base.engine == "ideal" else flat
        if max_batch not in self._schedules:
            self._schedules[max_batch] = written(best(self.profile, max_batch, ceiling(self.profile)))
        return self._schedules[max_batch]

    def _check(self) -> None:
        for spec in self.specs:
            policy_of(spec, f"{FLAG} policy={spec}" if self.policies else "--today")
        names = {named(find(spec)) for spec in self.specs}
        for each in self.constants:
            if each.policy not in names:
                hint = f"{FLAG} policy={each.policy}|..., or leaving it out"
                raise UsageError(f"no trial is of {each.policy}", where=f"{FLAG} {each.text}", hint=hint)
        for each in self.settings:
            for value in each.ends:
                self._check_value(each, value)

    def _check_value(self, each: Dimension, value: Value) -> None:
        """Try one end of a dimension with whatever of the others makes it hardest to take."""
        where = f"{FLAG} {each.text}"
        chosen: dict[str, Value] = {each.key: value}
        if each.key == "draft_tokens" and self.base.drafts == BY_BATCH and "drafts" not in self._keys():
            raise UsageError("drafts follow a schedule today", where=where, hint=f"{FLAG} drafts=fixed|by-batch too")
        if each.key == "batched_tokens":
            chosen["max_batch"] = self._most("max_batch")
        if each.key == "draft_tokens" and "drafts" in self._keys():
            chosen["drafts"] = FIXED
        scenario = self.base.model_copy(update={each.key: value})
        if wrong := misplaced(scenario):
            raise UsageError(wrong[1], where=where, hint=wrong[2])
        try:
            engine = self.engine(self._setting(self.specs[0], chosen))
        except UsageError as error:
            raise UsageError(error.what, where=where, hint=error.hint) from error
        bank = self.profile.bank
        most = bank.draft_tokens_max if bank is not None else 0
        if engine.draft_tokens > most:
            what = f"{self.profile.name} recorded acceptance up to {most} draft tokens"
            raise UsageError(what, where=where, hint=f"{most} at most")

    def _most(self, key: str) -> int:
        """Return the largest value of a whole number that may be tried, or today's."""
        ends = next((each.ends for each in self.settings if each.key == key), (getattr(self.base, key),))
        return max(int(end) for end in ends)

    def _keys(self) -> list[str]:
        return [each.key for each in self.settings]


def _named(spec: str) -> str:
    """Return the part of a policy's spec that names it: a file's has a colon of its own."""
    head, py, rest = spec.partition(".py:")
    return f"{head}{py}{rest.partition(':')[0]}" if py else spec.partition(":")[0]


def _saying(spec: str, parameter: str, value: str) -> str:
    """Return a spec with one more parameter."""
    return f"{spec}{',' if ':' in spec.removeprefix(_named(spec)) else ':'}{parameter}={value}"


def _says(spec: str, parameter: str) -> bool:
    """Whether a spec gives this parameter itself."""
    return any(part.partition("=")[0].strip() == parameter for part in spec.removeprefix(_named(spec))[1:].split(","))
