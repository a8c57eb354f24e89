"""One profile from command to files: load, plan, record, measure, write. Prints nothing.

What is finished is on disk at once (`parts`); the profile appears only when everything is there.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lapsbench.core import Costs, Profile
from lapsbench.profile import device as devices
from lapsbench.profile import recordings
from lapsbench.profile.acceptance import Settings, measure, refuse_random
from lapsbench.profile.clock import clock_name, copy_bandwidth
from lapsbench.profile.costing import Costing
from lapsbench.profile.costs import Bench
from lapsbench.profile.decoder import Sampling
from lapsbench.profile.parts import IDENTITY, Parts, refuse_foreign
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
        refuse_foreign(wanted.out)
        self.limits = limits
        self.wanted = wanted
        self.device, self.dtype = prepare(wanted)
        say("loading models")
        self.pair = load(wanted, self.device, self.dtype)
        self.prompts = _prompts(wanted, self.pair)
        self.plan = plan(wanted, self.pair, self.device)
        self.parts = Parts(wanted.out, self._identity())
        self.remarks: list[str] = []

    def run(self, progress: Progress = lambda *_: None) -> Profile:
        """Measure what is not on disk yet, write the profile and return it as it reads.

        Raises:
            LapsbenchError: the gate of the recording fails, memory is short, or the folder cannot be written.
        """
        if self.parts.complete:
            self.remarks.append(f"{self.wanted.out} holds this profile already: nothing was measured")
        else:
            self._fact("started", dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
            self._fact("state_before", devices.state(self.device))
            self._measure(progress)
        return open_profile(str(self.wanted.out.resolve()))

    def _measure(self, progress: Progress) -> None:
        bank = None if self.wanted.costs_only else self._record(progress)
        costing = self._costing()
        costing.run(progress)
        rows = costing.rows()
        provenance = self._provenance(costing, bank)
        self._remark(costing, provenance)
        provenance["remarks"] = self.remarks
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
        done = recordings.read(parts, settings.draft_tokens_max)
        if done is not None and parts.fact("reconciliation") is not None:
            return done
        measured = measure(
            self.pair.target,
            self.pair.draft,
            self.prompts,
            settings,
            done=done,
            save=lambda bank: recordings.keep(parts, bank),
            progress=lambda number, total: progress(number, total, "recording acceptance"),
        )
        self._fact("too_long", list(measured.too_long))
        self._fact("reconciliation", measured.reconciliation.facts | {"text": measured.reconciliation.text})
        return measured.bank

    def _costing(self) -> Costing:
        wanted = self.wanted
        sampling = Sampling.seeded(wanted.temperature, wanted.seed, self.device)
        bench = Bench(self.pair.seats, sampling, seed=wanted.seed, eager=wanted.eager, limits=self.limits)
        self._fact("copy_bytes_per_s", lambda: copy_bandwidth(self.device))
        return Costing(bench, self.plan.grid, self.parts, self.plan.sizes, self.plan.rates, wanted.budget_s)

    def _identity(self) -> dict[str, Any]:
        pair = self.pair
        return {
            "target": dict(pair.target.facts),
            "draft": {"name": pair.draft.name, **pair.draft.facts},
            "dtype": str(self.dtype).removeprefix("torch."),
            "positions": self.plan.sizes.positions,
            "memory_bytes": self.plan.sizes.memory_bytes,
            **devices.facts(self.device),
            **self.wanted.settings(),
        }

    def _provenance(self, costing: Costing, bank: Bank | None) -> dict[str, Any]:
        """Return all there is to say about the measurement; measures what only the provenance needs."""
        wanted, parts, grid = self.wanted, self.parts, costing.grid
        rows = dict(costing.rows())
        drift = costing.drift()
        found: dict[str, Any] = {
            "source": "lapsbench profile",
            "command": wanted.command,
            IDENTITY: parts.identity,
            **{name: parts.identity[name] for name in ("device", "dtype", "torch", "transformers", "seed")},
            "clock": clock_name(self.device),
            "grid": {"batches": grid.batches, "contexts": grid.axes.contexts, "draft_tokens": grid.draft_tokens},
            "left_out": list(grid.left_out),
            "budget": {"seconds": wanted.budget_s, "spent_s": costing.spent_s, "points_skipped": costing.skipped},
            "points": {"measured": len(rows), "unsettled": sum(not timing.settled for timing in rows.values())},
            "drift": drift,
            "round_over_parts": costing.round_over_parts(),
            "weights_bytes": self.plan.sizes.weights_bytes,
            "copy_bytes_per_s": parts.fact("copy_bytes_per_s"),
            "verify_1_over_weights_read": self._over_floor(rows),
            "acceptance": {name: parts.fact(name) for name in ("too_long", "reconciliation")} if bank else None,
            "started": parts.fact("started"),
            "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "state_before": parts.fact("state_before"),
            "state_after": devices.state(self.device),
        }
        if self.device.type == "cuda" and not wanted.eager:
            found["eager_over_graphs"] = self._fact("eager_over_graphs", lambda: self._eager(costing, rows))
        return found | {"label": self._label(drift)}

    def _label(self, drift: dict[str, Any]) -> str:
        draft = self.pair.seats.draft.label
        remarks = [f"draft {draft}"] if "(" in draft else []
        if self.pair.target.random:
            remarks.append(f"target {self.pair.target.label}")
        if drift["drifted"]:
            remarks.append(f"a point measured again at the end differed by {100 * drift['change']:+.0f} %")
        return devices.label(self.device, self.dtype, remarks)

    def _over_floor(self, rows: dict[Point, Timing]) -> float:
        """Return the quickest plain step of batch 1 over the time that reading all weights takes at copy speed."""
        steps = [each for each in rows if each.component == "verify" and each.query_tokens == 1]
        smallest = min(steps, key=lambda each: (each.batch_size, each.context_tokens))
        floor_s = self.plan.sizes.weights_bytes / self.parts.fact("copy_bytes_per_s")
        return float(rows[smallest].median_s / floor_s)

    @staticmethod
    def _eager(costing: Costing, rows: dict[Point, Timing]) -> dict[str, float]:
        """Return how much longer the smallest steps take without captured graphs."""
        found = {}
        for component in ("draft", "verify"):
            point = min(each for each in rows if each.component == component)
            eager = costing.bench.measure(point, costing.grid, eager=True)
            found[component] = eager.median_s / rows[point].median_s
        return found

    def _remark(self, costing: Costing, provenance: dict[str, Any]) -> None:
        """Say what a reader of the numbers must know."""
        if costing.resumed:
            self.remarks.append(f"resumed: {costing.resumed} of {len(costing.timings)} points were measured before")
        self.remarks += [f"left out, for want of memory: {each}" for each in costing.grid.left_out]
        if reconciliation := self.parts.fact("reconciliation"):
            self.remarks.append(f"recording and decoder agree: {reconciliation['text']}")
        if too_long := self.parts.fact("too_long"):
            self.remarks.append(f"left out: {len(too_long)} prompts longer than the models have room for")
        if costing.skipped:
            self.remarks.append(f"left out by --budget-s: {costing.skipped} of the finer grid's points")
        unsettled, measured = provenance["points"]["unsettled"], provenance["points"]["measured"]
        if unsettled:
            self.remarks.append(f"{unsettled} of {measured} points did not settle within 2 %: p10 and p90 tell how far")
        states = (provenance["state_before"], provenance["state_after"])
        busiest = max(states, key=lambda state: state.get("load_average", 0))
        if busiest.get("load_average", 0) > busiest.get("processors", 1):
            load, count = busiest["load_average"], busiest["processors"]
            self.remarks.append(f"others used this machine meanwhile: load {load} on {count} processors")
        if provenance["drift"]["drifted"]:
            change = 100 * provenance["drift"]["change"]
            self.remarks.append(
                f"drift: a point measured again at the end differed by {change:+.0f} %: do not trust "
                "smaller differences"
            )

    def _fact(self, name: str, value: Any) -> Any:
        """Return a fact, finding it out (if it is a function) and keeping it the first time."""
        if self.parts.fact(name) is None:
            self.parts.keep("fact", name=name, value=value() if callable(value) else value)
        return self.parts.fact(name)


def _prompts(wanted: Wanted, pair: Pair) -> list[Prompt]:
    """Return what will be asked; refuses before anything is measured."""
    if wanted.costs_only:
        return []
    refuse_random(pair.target, pair.draft)
    return read_prompts(wanted.prompts)


def _costs(rows: list[tuple[Point, Timing]]) -> Costs:
    points = [point for point, _ in rows]
    return Costs(
        np.array([point.component for point in points], dtype=object),
        np.array([point.batch_size for point in points], dtype=np.int32),
        np.array([point.query_tokens for point in points], dtype=np.int32),
        np.array([point.context_tokens for point in points], dtype=np.int32),
        np.array([timing.median_s for _, timing in rows]),
    )
