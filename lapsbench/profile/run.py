"""One profile from command to files: load, plan, record, measure, write. Prints nothing.

What is finished is on disk at once (`parts`); the profile appears only when everything is there.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lapsbench.core import Costs, Profile
from lapsbench.decoding.decoder import Sampling
from lapsbench.profile import bank_parts
from lapsbench.profile import device as devices
from lapsbench.profile.acceptance import Settings, measure, refuse_random
from lapsbench.profile.account import Account
from lapsbench.profile.clock import copy_bandwidth
from lapsbench.profile.costing import Costing
from lapsbench.profile.costs import Bench
from lapsbench.profile.parts import Parts, refuse_foreign
from lapsbench.profile.plan import load, plan, prepare
from lapsbench.profile.prompts import read_prompts
from lapsbench.store.profile import Repeats, open_profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from lapsbench.core import Bank
    from lapsbench.profile.clock import Limits, Timing
    from lapsbench.profile.estimate import Plan
    from lapsbench.profile.grid import Point
    from lapsbench.profile.plan import Pair
    from lapsbench.profile.prompts import Prompt
    from lapsbench.profile.wanted import Wanted

    Progress = Callable[[float, float, str], None]


def dry_run(wanted: Wanted) -> Plan:
    """Return what `profile` would measure; no weights are read, and nothing is written.

    Raises:
        LapsbenchError: no such model or device, or nothing fits.
    """
    device, dtype = prepare(wanted)
    pair = load(wanted, torch.device("meta"), dtype)
    if not wanted.costs_only:
        refuse_random(pair.target, pair.draft)
    return plan(wanted, pair, device)


class Profiler:
    """A profile made ready to measure.

    Args:
        wanted: the command.
        say: told what is being waited for.
        limits: how long to repeat each measurement.

    Raises:
        LapsbenchError: no such model or device, nothing fits, or the folder holds something else.
    """

    def __init__(
        self, wanted: Wanted, say: Callable[[str], None] = lambda _: None, limits: Limits | None = None
    ) -> None:
        refuse_foreign(wanted.out)  # and a folder that another command holds, before minutes of loading
        self.limits = limits
        self.wanted = wanted
        self.device, self.dtype = prepare(wanted)
        say("loading models")
        self.pair = load(wanted, self.device, self.dtype)
        self.prompts = _prompts(wanted, self.pair)
        self.plan = plan(wanted, self.pair, self.device)
        self.parts = Parts(wanted.out, self._identity())
        self.remarks: list[str] = [self.parts.remark] if self.parts.remark else []

    def close(self) -> None:
        """Let the next command into the folder."""
        self.parts.close()

    def run(self, progress: Progress = lambda *_: None) -> Profile:
        """Measure what is not on disk yet, write the profile and return it as it reads.

        Raises:
            LapsbenchError: the gate of the recording fails, memory is short, or the folder cannot be written.
        """
        if self.parts.complete:
            self.remarks.append(f"{self.wanted.out} holds this profile already: nothing was measured")
        else:
            self.parts.keep_fact("started", dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
            self.parts.keep_fact("state_before", devices.state(self.device))
            self._measure(progress)
        return open_profile(str(self.wanted.out.resolve()))

    def _measure(self, progress: Progress) -> None:
        bank = None if self.wanted.costs_only else self._record(progress)
        costing = self._costing()
        costing.run(progress)
        rows = costing.rows()
        provenance = Account(self.wanted, self.pair, self.parts, costing, self.device, self.dtype).provenance(bank)
        self.remarks += provenance["remarks"]
        repeats = Repeats(
            np.array([timing.p10_s for _, timing in rows]),
            np.array([timing.p90_s for _, timing in rows]),
            np.array([timing.repeats for _, timing in rows], dtype=np.int32),
        )
        profile = Profile(self.wanted.out.name, _costs(rows), bank, provenance)
        self.parts.finish(profile, repeats)

    def _record(self, progress: Progress) -> Bank:
        """Return the acceptance of all prompts; what was recorded and reconciled before is not done again."""
        wanted, parts = self.wanted, self.parts
        settings = Settings(
            max_new_tokens=wanted.max_new_tokens,
            draft_tokens_max=wanted.draft_tokens_max,
            temperature=wanted.temperature,
            seed=wanted.seed,
        )
        done = bank_parts.read(parts, settings.draft_tokens_max)
        if done is not None and parts.fact("reconciliation") is not None:
            return done
        measured = measure(
            self.pair.target,
            self.pair.draft,
            self.prompts,
            settings,
            done=done,
            save=lambda bank: bank_parts.keep(parts, bank),
            progress=lambda number, total: progress(number, total, "recording acceptance"),
        )
        self.parts.keep_fact("too_long", list(measured.too_long))
        self.parts.keep_fact("reconciliation", measured.reconciliation.facts | {"text": measured.reconciliation.text})
        return measured.bank

    def _costing(self) -> Costing:
        wanted = self.wanted
        sampling = Sampling.seeded(wanted.temperature, wanted.seed, self.device)
        bench = Bench(self.pair.seats, sampling, seed=wanted.seed, eager=wanted.eager, limits=self.limits)
        self.parts.keep_fact("copy_bytes_per_s", lambda: copy_bandwidth(self.device))
        return Costing(bench, self.plan.grid, self.parts, self.plan.sizes, self.plan.rates, wanted.budget_s)

    def _identity(self) -> dict[str, Any]:
        pair = self.pair
        return {
            "target": dict(pair.target.facts),
            "draft": {"name": pair.draft.name, **pair.draft.facts},
            "dtype": str(self.dtype).removeprefix("torch."),
            "positions": self.plan.sizes.positions,
            "memory_bytes": self.plan.sizes.memory_bytes,
            "mixed": self.plan.grid.mixed or None,  # as in parts that know nothing of it
            **devices.facts(self.device),
            **self.wanted.settings(),
        }


def _prompts(wanted: Wanted, pair: Pair) -> list[Prompt]:
    """Return what will be asked; refuses before anything is measured."""
    if wanted.costs_only:
        return []
    refuse_random(pair.target, pair.draft)
    return read_prompts(wanted.prompts)


def _costs(rows: list[tuple[Point, Timing]]) -> Costs:
    component, *sizes = zip(*(astuple(point) for point, _ in rows), strict=True)
    batch, query, context, *of_mixed = (np.array(size, dtype=np.int32) for size in sizes)
    time_s = np.array([timing.median_s for _, timing in rows])
    kinds = np.array(component, dtype=object)
    return Costs(kinds, batch, query, context, time_s, *(of_mixed if "mixed" in component else ()))
