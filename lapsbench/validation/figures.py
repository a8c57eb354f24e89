"""Executed against simulated, in figures: errors beside spread, prices by kind of step, ratios of policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.metrics.intervals import t_quantile
from lapsbench.streams import stream
from lapsbench.validation.comparing import METRICS
from lapsbench.validation.composition import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.core import Floats
    from lapsbench.validation.comparing import Pair, Times

SIDES = ("executed", "simulated", "corrected")
CLOSE, CLOSE_AT_MOST = 0.03, 0.05
"""Errors of a mean that are close: this, or half its 95 % interval where that is wider, so much at most."""
CLOSE_UNCORRECTED = CLOSE_TAIL = 0.08
CLOSE_RATIO = 0.03
REDRAWN = 2000
"""Times that repeats are drawn again, for the interval of what comes of all of them together."""


def rows(drafts: int, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Return a row per load, policy and metric: the mean over repeats, and p99 over their requests together."""
    found = []
    for load, policy in dict.fromkeys((pair.load, pair.policy) for pair in pairs):
        mine = [pair for pair in pairs if (pair.load, pair.policy) == (load, policy)]
        known = {"draft_tokens": drafts, "load": load, "policy": policy, "repeats": len(mine)}
        sides = {side: [getattr(pair, side) for pair in mine] for side in SIDES}
        for name in METRICS:
            means = {side: np.array([getattr(each, f"{name}_s").mean() for each in sides[side]]) for side in SIDES}
            found.append(known | {"metric": f"{name}_mean_s"} | _against(means))
            tails = {side: np.array([_p99(sides[side], name)]) for side in SIDES}
            found.append(
                known
                | {"metric": f"{name}_p99_s"}
                | _against(tails)
                | {"half_interval": _tail_half(sides["executed"], name)}
            )
        rates = {side: np.array([each.throughput_tps for each in sides[side]]) for side in SIDES}
        found.append(known | {"metric": "throughput_tps"} | _against(rates))
    return found


def _p99(cells: Sequence[Times], name: str) -> float:
    return float(np.quantile(np.concatenate([getattr(each, f"{name}_s") for each in cells]), 0.99))


def _tail_half(cells: Sequence[Times], name: str) -> float | None:
    """Return half of the 95 % interval of p99 over p99: repeats are drawn again, with replacement."""
    n = len(cells)
    if n == 1:
        return None
    draws = stream(0, "validate/p99").integers(0, n, (REDRAWN, n))
    again = [_p99([cells[i] for i in draw], name) for draw in draws]
    low, high = np.quantile(again, (0.025, 0.975))
    return float((high - low) / 2 / _p99(cells, name))


def _against(sides: dict[str, Floats]) -> dict[str, Any]:
    """Return means, half the 95 % interval of the executed one over it, and errors against it."""
    executed, simulated, corrected = (float(sides[side].mean()) for side in SIDES)
    return {
        "executed": executed,
        "half_interval": _half(sides["executed"]) / executed if len(sides["executed"]) > 1 else None,
        "simulated": simulated,
        "corrected": corrected,
        "error": simulated / executed - 1,
        "corrected_error": corrected / executed - 1,
    }


def _half(values: Floats) -> float:
    """Return half of the 95 % interval of a mean, by Student's t."""
    n = len(values)
    return float(t_quantile(n - 1) * values.std(ddof=1) / np.sqrt(n))


def prices(drafts: int, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Return executed over priced by kind of step: over all cells, and corrected by each cell's factor."""
    found = []
    for kind in KINDS:
        taken = np.array([pair.proof.taken_s[kind] for pair in pairs])
        priced = np.array([pair.proof.priced_s[kind] for pair in pairs])
        there = priced > 0
        if there.any():
            ratios = taken[there] / priced[there]
            dear = np.array([pair.factor for pair in pairs])[there]
            found.append(
                {
                    "draft_tokens": drafts,
                    "kind": kind,
                    "share": float(taken.sum() / sum(sum(pair.proof.taken_s.values()) for pair in pairs)),
                    "ratio": float(np.median(ratios)),
                    "corrected_ratio": float(np.median(ratios / dear)),
                    "lowest": float(ratios.min()),
                    "highest": float(ratios.max()),
                }
            )
    return found


def ratios(drafts: int, pairs: Sequence[Pair], baseline: str) -> list[dict[str, Any]]:
    """Return what each policy's mean JCT is over the baseline's, executed, simulated and corrected."""
    table = [row for row in rows(drafts, pairs) if row["metric"] == "jct_mean_s"]
    base = {row["load"]: row for row in table if row["policy"] == baseline}
    found = []
    for row in table:
        if row["policy"] != baseline and row["load"] in base:
            over = {side: row[side] / base[row["load"]][side] for side in SIDES}
            found.append({"draft_tokens": drafts, "load": row["load"], "policy": row["policy"], **over})
    return found


def ranking(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Return the policies of every load by mean JCT, as executed and as simulated."""
    found = []
    table = [row for row in rows(0, pairs) if row["metric"] == "jct_mean_s"]
    for load in dict.fromkeys(row["load"] for row in table):
        mine = [row for row in table if row["load"] == load]
        order = {side: [row["policy"] for row in sorted(mine, key=lambda row: row[side])] for side in SIDES}
        found.append({"load": load, **order})
    return found


def kept(table: Sequence[dict[str, Any]], over: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how many rows are close, and the worst of each.

    Args:
        table: what `rows` returns.
        over: what `ratios` returns.
    """
    means, tails = ([row for row in table if row["metric"] == f"jct_{name}_s"] for name in ("mean", "p99"))
    wide = [max(CLOSE, min(row["half_interval"] or 0.0, CLOSE_AT_MOST)) for row in means]
    off = [row | {"error": row["corrected"] - row["executed"]} for row in over]
    found = [
        _kept("mean JCT", means, "corrected_error", CLOSE, wide) | {"at_most": CLOSE_AT_MOST},
        _kept("mean JCT, raw", means, "error", CLOSE_UNCORRECTED),
        _kept("p99 of JCT", tails, "corrected_error", CLOSE_TAIL),
    ]
    return [*found, _kept("ratios", off, "error", CLOSE_RATIO)] if off else found


def _kept(
    what: str, table: Sequence[dict[str, Any]], error: str, within: float, wide: Sequence[float] = ()
) -> dict[str, Any]:
    limits = wide or [within] * len(table)
    close = sum(abs(row[error]) <= limit for row, limit in zip(table, limits, strict=True))
    row = max(table, key=lambda row: abs(row[error]))
    worst = {name: row[name] for name in ("policy", "load", "draft_tokens")} | {"error": row[error]}
    return {"what": what, "within": within, "at_most": None, "kept": close, "of": len(table), "worst": worst}
