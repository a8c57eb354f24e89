"""What a measured profile promises: step times, acceptance, and the speed-up to expect at each k.

Expected speed-up at batch b and k drafts, at one context:

    tokens a round(k) * (verify(b, 1) + overhead(b)) / (draft(b, k) + verify(b, k + 1) + overhead(b))

Reads a `Profile` and nothing else; no torch. Only measured points are used, nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.acceptance.rounds import rounds_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lapsbench.core import Bank, Costs, Profile

SCHEMA = "lapsbench.profile/1"
ROWS = 6
"""Batches shown."""


@dataclass(frozen=True, slots=True)
class Step:
    """Times of one batch at the summary's context, and what they come to at each k.

    Attributes:
        plain_s: verify(1) + overhead: a step of plain decoding.
        draft_s, verify_s: of k and k + 1 tokens at the largest k; None where that does not fit memory.
        overhead_s: of any step.
        token_ratio: drafting one token over the target's step for one.
        rounds: at each k, the time of a round over a plain step: the tokens a round must give to break even.
        speedups: at each k, tokens per second over those of plain decoding; empty without acceptance.
        best: the k of the largest speed-up; 0 where plain decoding is faster; None without acceptance.
    """

    batch: int
    plain_s: float | None
    draft_s: float | None
    verify_s: float | None
    overhead_s: float
    token_ratio: float | None
    rounds: tuple[float | None, ...]
    speedups: tuple[float | None, ...] = ()
    best: int | None = None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Acceptance of one category's prompts: shares and tokens a round, pooled over the category's tokens and rounds."""

    category: str
    prompts: int
    output_tokens: int
    first_draft: float
    tokens_per_round: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A profile in a few numbers.

    Attributes:
        name, label: of the profile.
        provenance: as written in its files.
        points: rows of the cost table.
        context: of those measured at the most batches, the closest to the middle of the recorded requests, or the
            middle one.
        drafts: every k of the grid that acceptance was recorded for.
        steps: one per batch, some left out where there are many.
        acceptance: one per category, then all together; empty without recordings.
    """

    name: str
    label: str
    provenance: Mapping[str, Any]
    points: int
    context: int
    drafts: tuple[int, ...]
    steps: tuple[Step, ...]
    acceptance: tuple[Acceptance, ...]


def summarize(profile: Profile) -> Summary:
    """Return the summary of a profile with costs of drafting."""
    costs, bank = profile.costs, profile.bank
    most = bank.draft_tokens_max if bank else 255
    drafts = tuple(each for each in _values(costs, "draft", costs.query_tokens) if each <= most)
    context = _typical(_contexts(costs), bank)
    gains = tuple(rounds_of(bank, k).tokens_per_round for k in drafts) if bank else None
    times = _Times(costs, context)
    batches = _spread(_values(costs, "verify", costs.batch_size))
    return Summary(
        name=profile.name,
        label=profile.label,
        provenance=profile.provenance,
        points=len(costs.time_s),
        context=context,
        drafts=drafts,
        steps=tuple(times.step(batch, drafts, gains) for batch in batches),
        acceptance=tuple(_acceptance(bank, drafts)) if bank else (),
    )


class _Times:
    """Measured times at one context."""

    def __init__(self, costs: Costs, context: int) -> None:
        self.context = context
        keys = (costs.component, costs.batch_size, costs.query_tokens, costs.context_tokens)
        rows = zip(*(key.tolist() for key in keys), costs.time_s.tolist(), strict=True)
        self.known = {tuple(row[:4]): row[4] for row in rows}
        self.overheads = {row[1]: time_s for row, time_s in self.known.items() if row[0] == "overhead"}

    def step(self, batch: int, drafts: Sequence[int], gains: Sequence[float] | None) -> Step:
        # one grid point is constant along the axis (docs/model.md)
        overhead = self.overheads.get(batch, next(iter(self.overheads.values())) if len(self.overheads) == 1 else 0.0)
        verify_1 = self._of("verify", batch, 1)
        draft_1 = self._of("draft", batch, drafts[0]) if drafts else None
        most = drafts[-1] if drafts else 0
        plain = None if verify_1 is None else verify_1 + overhead
        rounds = tuple(self._round(batch, k, overhead, plain) for k in drafts)
        speedups = tuple(None if cost is None else gain / cost for gain, cost in zip(gains or (), rounds, strict=False))
        known = {k: value for value, k in zip(speedups, drafts, strict=False) if value is not None and value > 0}
        fastest = max(known, key=lambda k: (known[k], -k), default=0)
        return Step(
            batch=batch,
            plain_s=plain,
            draft_s=self._of("draft", batch, most),
            verify_s=self._of("verify", batch, most + 1),
            overhead_s=overhead,
            token_ratio=draft_1 / drafts[0] / verify_1 if draft_1 is not None and verify_1 is not None else None,
            rounds=rounds,
            speedups=speedups,
            best=(fastest if known[fastest] > 1 else 0) if known else None,
        )

    def _round(self, batch: int, k: int, overhead: float, plain: float | None) -> float | None:
        draft, verify = self._of("draft", batch, k), self._of("verify", batch, k + 1)
        if draft is None or verify is None or plain is None:
            return None
        return float((draft + verify + overhead) / plain)

    def _of(self, component: str, batch: int, query: int) -> float | None:
        return self.known.get((component, batch, query, self.context))


def _acceptance(bank: Bank, drafts: Sequence[int]) -> list[Acceptance]:
    categories = sorted({str(each) for each in bank.category})
    groups = [(name, np.flatnonzero(bank.category.astype(str) == name)) for name in categories]
    if len(groups) > 1:
        groups.append(("all", np.arange(len(bank))))
    return [_of_group(name or "all", _part(bank, rows), drafts) for name, rows in groups]


def _of_group(name: str, bank: Bank, drafts: Sequence[int]) -> Acceptance:
    first = np.ones(len(bank.accept_runs), dtype=np.bool_)
    first[bank.offsets[:-1]] = False  # the first token comes from prefill: no round starts before it
    starts = bank.accept_runs[first]
    return Acceptance(
        category=name,
        prompts=len(bank),
        output_tokens=int(bank.output_tokens.sum()),
        first_draft=float(np.mean(starts > 0)) if len(starts) else float("nan"),
        tokens_per_round=tuple(rounds_of(bank, k).tokens_per_round for k in drafts),
    )


def _part(bank: Bank, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Bank:
    pieces = [bank.accept_runs[bank.offsets[row] : bank.offsets[row + 1]] for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
    return replace(
        bank,
        prompt_id=bank.prompt_id[rows],
        category=bank.category[rows],
        prompt_tokens=bank.prompt_tokens[rows],
        output_tokens=bank.output_tokens[rows],
        offsets=offsets,
        accept_runs=np.concatenate(pieces),
    )


def _values(costs: Costs, component: str, sizes: np.ndarray[Any, np.dtype[np.int32]]) -> list[int]:
    return [int(each) for each in np.unique(sizes[costs.component == component])]


def _contexts(costs: Costs) -> list[int]:
    """Return the contexts that the most batches were verified at: a grid that is not whole lacks some."""
    mine = costs.component == "verify"
    pairs = np.unique(np.stack([costs.context_tokens[mine], costs.batch_size[mine]]), axis=1)
    contexts, batches = np.unique(pairs[0], return_counts=True)
    return [int(each) for each in contexts[batches == batches.max()]]


def _typical(contexts: Sequence[int], bank: Bank | None) -> int:
    if bank is None:
        return contexts[len(contexts) // 2]
    middle = float(np.mean(bank.prompt_tokens + bank.output_tokens / 2))
    return min(contexts, key=lambda each: abs(each - middle))


def _spread(values: Sequence[int]) -> list[int]:
    """Return at most `ROWS` of them, both ends among them."""
    places = np.unique(np.linspace(0, len(values) - 1, min(ROWS, len(values))).round().astype(int))
    return [values[place] for place in places]


def to_json(summary: Summary) -> dict[str, Any]:
    """Return the summary as JSON-able values; undefined ones are null."""
    found = asdict(summary)
    for each in found["acceptance"]:
        each["first_draft"] = _defined(each["first_draft"])
        each["tokens_per_round"] = [_defined(value) for value in each["tokens_per_round"]]
    for each in found["steps"]:
        each["speedups"] = [_defined(value) for value in each["speedups"]]
    return {"schema": SCHEMA, **found}


def _defined(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
