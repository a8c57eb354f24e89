"""Random replays for the differential test, and what differs when the reference and vLLM disagree."""

from __future__ import annotations

from dataclasses import dataclass

from strategies import Scenario, differences
from vllm_cases import METHODS, Ask, cases

from lapsbench.core import REJECTED, Outcome, Policy
from lapsbench.sim.reference.vllm import Step, Vllm
from lapsbench.vllm.referee import Referee

__all__ = ["METHODS", "Ask", "cases", "disagreement"]


@dataclass
class Counts:
    """What the differential test has seen."""

    cases: int = 0
    steps: int = 0
    preemptions: int = 0
    resumes: int = 0
    found_again: int = 0
    padded: int = 0
    rejected: int = 0
    stopped: int = 0

    def add(self, outcome: Outcome, steps: list[Step]) -> None:
        """Count one case."""
        parts = [part for step in steps for part in step.parts]
        self.cases += 1
        self.steps += outcome.steps
        self.preemptions += int(outcome.preemptions.sum())
        self.resumes += int(outcome.resumes.sum())
        self.padded += sum(part.padded for part in parts)
        self.rejected += int((outcome.status == REJECTED).sum())
        self.stopped += bool(outcome.stopped)
        again = {job.request for step in steps for job in step.dropped}
        starts = [part for part in parts if part.job.request in again and not part.round and part.cached > 0]
        self.found_again += len(starts)


SEEN = Counts()


def disagreement(scenario: Scenario, policy: Policy, twin: type[Vllm] = Vllm) -> str:
    """Replay on the reference and on vLLM's own scheduler; say where they part, step by step and then by outcome."""
    ready = scenario.ready(policy)
    ours, theirs = twin(*ready, log=[]), Referee(*ready, log=[])
    one, other = ours.run(), theirs.run()
    SEEN.add(one, ours.log)
    where = first_difference(ours.log, theirs.log)
    fields = differences(one, other)
    return f"{where}\n{', '.join(fields)} differ, {scenario.engine}" if where or fields else ""


def row(part, *, emitted: bool) -> str:
    """Say in a few words what a step does for a request."""
    what = f"{part.tokens} tokens over {part.cached}"
    what += f", {part.drafts} drafts" if part.drafts else ""
    what += "" if part.round else ", prefill"
    return f"request {part.job.request}: {what}{f', emits {part.emitted}' if emitted else ''}"


def first_difference(ours, theirs) -> str:
    """Return both compositions of the first step that differs, or nothing."""
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        mine, its = ([row(part, emitted=True) for part in step.parts] for step in (one, other))
        out, gone = sorted(job.request for job in one.dropped), other.dropped
        when = [(step.began_s, step.ended_s) for step in (one, other)]
        if (mine, out) != (its, gone) or when[0] != when[1]:
            said = [f"step {number} of {len(ours)} and {len(theirs)}"]
            for name, rows, lost, times in (("lapsbench", mine, out, when[0]), ("vLLM", its, gone, when[1])):
                said += [f"{name} at {times[0]!r} to {times[1]!r}, preempts {lost}:", *(f"    {each}" for each in rows)]
            return "\n".join(said)
    return "" if len(ours) == len(theirs) else f"{len(ours)} steps, and {len(theirs)}"
