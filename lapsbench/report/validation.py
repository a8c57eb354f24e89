"""Prints a validation: executed against simulated, beside the spread of what was executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Row = dict[str, Any]
COLUMNS = (
    ("jct_mean_s", "JCT mean"),
    ("jct_p99_s", "JCT p99"),
    ("ttft_mean_s", "TTFT mean"),
    ("tpot_mean_s", "TPOT mean"),
    ("throughput_tps", "tokens/s"),
)


def text(result: Row) -> str:
    """Return all tables as text."""
    cells = result["cells"]
    same, steps = (sum(cell["proof"][name] for cell in cells) for name in ("same", "steps"))
    drafting = f" + {result['draft']}, acceptance {result['acceptance']}" if result["draft"] else ""
    on = f"{result['engine']} on {result['device']}, {result['target']}{drafting}"
    head = f"{on}, {result['requests']} requests a cell\n"
    parts = [
        head,
        "Error of the simulated figure against the executed one; after | corrected for drift by probes alone.\n",
        _table(*_errors(result["figures"])),
        "\nTaken over priced, by kind of step: median over cells, corrected, and the range uncorrected.\n",
        _table(*_prices(result["prices"])),
        f"\nSteps composed alike: {same:,} of {steps:,}\n",
    ]
    if result["acceptance"] == "own":
        shares = [cell["as_recorded"] for cell in cells if cell["draft_tokens"]]
        parts.append(f"Requests that accepted what they did in the first serving: {sum(shares) / len(shares):.0%}\n")
    if result["ratios"]:
        parts += ["\nMean JCT over the baseline's.\n", _table(*_ratios(result["ratios"]))]
    for row in result["ranking"]:
        alike = row["executed"] == row["simulated"]
        order = f"load {row['load']:g}, k = {row['draft_tokens']}: {' < '.join(row['executed'])}"
        parts.append(f"{order}; simulated {'the same' if alike else ' < '.join(row['simulated'])}\n")
    return "".join(parts)


def _errors(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    lines = []
    for drafts, load, policy in dict.fromkeys((row["draft_tokens"], row["load"], row["policy"]) for row in rows):
        mine = {
            row["metric"]: row
            for row in rows
            if (row["draft_tokens"], row["load"], row["policy"]) == (drafts, load, policy)
        }
        jct, tail = mine["jct_mean_s"], mine["jct_p99_s"]
        known = [str(drafts), f"{load:g}", policy, str(jct["repeats"]), f"{jct['executed']:.3f} s"]
        errors = [_signed(mine[name], "error", "corrected_error") for name, _ in COLUMNS]
        lines.append([*known, _spread(jct), errors[0], _spread(tail), *errors[1:]])
    titles = [title for _, title in COLUMNS]
    return ["k", "load", "policy", "runs", "JCT executed", "95 %", titles[0], "of p99", *titles[1:]], lines


def _spread(row: Row) -> str:
    """Return half of the 95 % interval of what was executed."""
    return "-" if row["half_interval"] is None else f"±{100 * row['half_interval']:.1f} %"


def _prices(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    lines = [
        [
            str(row["draft_tokens"]),
            row["kind"],
            f"{100 * row['share']:.0f} %",
            f"{row['ratio']:.3f}",
            f"{row['corrected_ratio']:.3f}",
            f"{row['lowest']:.3f} to {row['highest']:.3f}",
        ]
        for row in rows
    ]
    return ["k", "step", "of time", "taken / priced", "corrected", "cells"], lines


def _ratios(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    lines = [
        [str(row["draft_tokens"]), f"{row['load']:g}", row["policy"]]
        + [f"{row[side]:.3f}" for side in ("executed", "simulated", "corrected")]
        for row in rows
    ]
    return ["k", "load", "policy", "executed", "simulated", "corrected"], lines


def _signed(row: Row, *names: str) -> str:
    return " | ".join(f"{100 * row[name]:+.1f}" for name in names) + " %"


def _table(head: list[str], lines: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    pad: Callable[[str, int], str] = str.ljust
    return "".join(
        "  ".join(pad(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in [head, *lines]
    )
