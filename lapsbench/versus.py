"""Two run folders against each other: pair the requests, judge the changes, say what else differs.

Knows files and metrics; knows nothing of simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapsbench.core import LARGE
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.metrics.change import Change, Pair, change, without_blocks
from lapsbench.pairing import identical, other_acceptance, other_work, paired_in_parts
from lapsbench.reading import executed, summary_of, warmup_of
from lapsbench.store.saved import SavedRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lapsbench.metrics.gate import Gate, Outcome
    from lapsbench.store.saved import SavedCell

SHOWN = ("jct_mean_s", "jct_p99_s")
"""Metrics that are always compared, beside those of gates."""
ALLOW = "--allow-different-work to compare them all the same, or replaying both on one trace at one --rate"

Key = tuple[str, float | None, int]
Cells = dict[Key, "SavedCell"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting, version or hash that is not the same in both runs."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A gate and a change it is about."""

    gate: Gate
    change: Change
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Versus:
    """What comparing two runs says.

    Attributes:
        unpaired: cells that only one of them has.
        other_work: in which way their requests are not the same; "" if they are.
        approximate: whether quantiles of some cells come from sketches.
        other_kind: which of them was replayed and which served for real, or on which engines; "" if both alike.
    """

    before: str
    after: str
    changes: Sequence[Change]
    judged: Sequence[Judged]
    differences: Sequence[Difference]
    unpaired: Sequence[str]
    other_work: str
    other_kind: str = ""
    approximate: bool = False


def compare_runs(
    before: str,
    after: str,
    gates: Sequence[Gate] = (),
    *,
    allow_different_work: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Versus:
    """Compare two run folders.

    Raises:
        LapsbenchError: a folder that is no finished run; different work, unless that is allowed; nothing in common.
        UsageError: a gate on a policy that neither run has.
    """
    runs = SavedRun(Path(before)), SavedRun(Path(after))
    cells: list[Cells] = [{(cell.policy, cell.load, cell.seed): cell for cell in run.cells} for run in runs]
    common = [key for key in cells[1] if key in cells[0]]
    where = f"{before} and {after}"
    if not common:
        raise LapsbenchError("have no policy, load and seed in common", where=where, hint="runs of the same cells")
    _refuse_unknown(gates, {policy for policy, _, _ in common})
    metrics = tuple(dict.fromkeys((*SHOWN, *(gate.metric for gate in gates))))
    groups: dict[tuple[str, float | None], list[Pair]] = {}
    different = ""
    for key in common:
        pair, other = _pair(runs, (cells[0][key], cells[1][key]), metrics)
        if other and not allow_different_work:
            raise LapsbenchError(f"are different work: {other} ({_named(key)})", where=where, hint=ALLOW)
        different = different or other
        groups.setdefault(key[:2], []).append(pair)
        progress()
    changes = [change(pairs, metric) for pairs in groups.values() for metric in metrics]
    return Versus(
        before,
        after,
        changes,
        [Judged(gate, each, gate.judge(each)) for gate in gates for each in changes if gate.concerns(each)],
        list(_differences(*runs)),
        [*_unpaired(cells[0], cells[1], before), *_unpaired(cells[1], cells[0], after)],
        different,
        _other_kind(*runs),
        any(pair.after.approximate for pairs in groups.values() for pair in pairs),
    )


def _other_kind(before: SavedRun, after: SavedRun) -> str:
    kinds = [(executed(run.manifest), f"{run.manifest.get('rules', 'ideal')}'s rules") for run in (before, after)]
    texts = [f"executed on {where}" if where else f"simulated by {rules}" for where, rules in kinds]
    if texts[0] == texts[1]:
        return ""
    return f"{before.folder} was {texts[0]}, {after.folder} {texts[1]}"


def _pair(
    runs: tuple[SavedRun, SavedRun], cells: tuple[SavedCell, SavedCell], metrics: Sequence[str]
) -> tuple[Pair, str]:
    """Return a pair, and in which way its two sides are different work ("" if they are not)."""
    # one cut for both: the later one
    warmup = max(warmup_of(run, cell) for run, cell in zip(runs, cells, strict=True))
    if max(run.size(cell) for run, cell in zip(runs, cells, strict=True)) > LARGE:
        return paired_in_parts(runs, cells, metrics, warmup, comparable=_comparable(*runs))
    sides = [run.requests(cell) for run, cell in zip(runs, cells, strict=True)]
    other = other_work(*sides) or (other_acceptance(*sides) if _comparable(*runs) else "")
    summaries = [summary_of(run, cell, side, warmup) for run, cell, side in zip(runs, cells, sides, strict=True)]
    without = {}
    if not other:
        outcomes = (sides[0].outcome, sides[1].outcome)
        without = without_blocks(sides[0].arrival_s, sides[0].output_tokens, outcomes, warmup, metrics)
    return Pair(summaries[0], summaries[1], identical(*sides), without), other


def _comparable(*runs: SavedRun) -> bool:
    """Whether a request takes as many rounds in both runs, if it accepts the same."""
    engines = [run.part("engine") for run in runs]
    own = any(run.manifest.get("executed", {}).get("acceptance") == "own" for run in runs)
    same_k = engines[0]["draft_tokens"] == engines[1]["draft_tokens"]
    return same_k and not own and not any(map(_resumes_emit, engines))


def _resumes_emit(engine: Mapping[str, Any]) -> bool:
    """Whether rounds depend on the scheduler: in vLLM a recomputation emits a token, and a budget cuts drafts."""
    return bool(engine.get("rules", "ideal") != "ideal")


def _refuse_unknown(gates: Sequence[Gate], policies: set[str]) -> None:
    for gate in gates:
        if gate.policy is not None and gate.policy not in policies:
            what = f"{gate.policy} is not in both runs"
            raise UsageError(what, where=f"--fail-if {gate.text!r}", hint=f"one of: {', '.join(sorted(policies))}")


def _unpaired(mine: Cells, theirs: Cells, name: str) -> list[str]:
    return [f"only {name} has {_named(key)}" for key in mine if key not in theirs]


def _named(key: Key) -> str:
    policy, load, seed = key
    return f"{policy}, {'' if load is None else f'load {load:g}, '}seed {seed}"


def _differences(before: SavedRun, after: SavedRun) -> Iterator[Difference]:
    sides = [dict(_settings(run)) for run in (before, after)]
    for what in dict.fromkeys((*sides[0], *sides[1])):
        texts = [str(side.get(what, "-")) for side in sides]
        if texts[0] != texts[1]:
            yield Difference(what, *texts)


def _settings(run: SavedRun) -> Iterator[tuple[str, Any]]:
    """Yield what one would want to know when two runs disagree."""
    yield "kind", run.manifest.get("kind", "simulated")
    for name, value in run.manifest.get("executed", {}).items():
        yield f"executed, {name}", value
    yield "lapsbench", run.part("lapsbench")
    yield "hash of the simulator's code", run.part("code")
    for name, source in run.part("sources").items():
        yield f"hash of the file of {name}", source
    for name, version in run.part("versions").items():
        yield f"version of {name}", version
    for noun in ("trace", "profile"):
        yield noun, run.part(noun, "name")
        yield f"hash of the {noun}", run.part(noun, "sha256_32")
    yield "requests", run.part("trace", "requests")
    for name, value in run.part("engine").items():
        yield name, value
    yield "predictions", run.part("predict")
    yield "calibration", run.part("calibration")
    yield "capacity, req/s", f"{run.part('capacity_rps'):.6g}"
    for name in ("rate", "window", "limit", "slo", "baseline"):
        yield name, run.part("scenario", name)
