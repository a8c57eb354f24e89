"""A validation as text or Markdown: executed against simulated, beside the spread of what was executed."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from lapsbench.report import github

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Row = dict[str, Any]
NAMED = 3
"""Columns that name a row of errors: drafts, load and policy."""
WIDTH = 100
READ_AS = (
    "Errors of simulated figures, in per cent: corrected for drift by probes alone (raw: as they are).\n"
    "95 %: half of the interval of the executed mean, or p99, over it, in per cent."
)


class _Table:
    """A head, and lines of cells; the first columns name a line, the others are numbers."""

    def __init__(self, head: Sequence[str], lines: Sequence[Sequence[str]], named: int) -> None:
        self.head, self.lines, self.named = head, lines, named

    def text(self) -> str:
        """Return it in columns."""
        rows = [self.head, *self.lines]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.head))]
        lines = ("  ".join(self._aligned(row, widths)) for row in rows)
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def _aligned(self, row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            yield cell.ljust(width) if place < self.named else cell.rjust(width)

    def markdown(self) -> str:
        """Return it as GitHub has it."""
        head, *lines = ([github.plain(cell) for cell in row] for row in (self.head, *self.lines))
        return github.table(head, lines, left=range(self.named))


def text(result: Row) -> str:
    """Return all tables as text."""
    return "\n".join(block.text() if isinstance(block, _Table) else _wrapped(block) for block in _blocks(result))


def markdown(result: Row) -> str:
    """Return all tables as Markdown."""
    blocks = (block.markdown() if isinstance(block, _Table) else github.plain(block) for block in _blocks(result))
    return "\n\n".join(block.replace("\n", "  \n") if block[0] != "|" else block for block in blocks) + "\n"


def _wrapped(block: str) -> str:
    return "".join(f"{textwrap.fill(line, WIDTH)}\n" for line in block.splitlines())


def _blocks(result: Row) -> Iterator[str | _Table]:
    cells = result["cells"]
    same, steps = (sum(cell["proof"][name] for cell in cells) for name in ("same", "steps"))
    drafting = f" + {result['draft']}, acceptance {result['acceptance']}" if result["draft"] else ""
    runs = result["figures"][0]["repeats"]
    size = f"{result['requests']} requests a cell, {runs} run{'s' * (runs > 1)} a row"
    on = f"{result['engine']} on {result['device']}, {result['target']}{drafting}; {size}"
    yield on
    yield READ_AS
    yield _errors(result["figures"])
    yield _kept(result["kept"])
    yield "Taken over priced, by kind of step: median over cells, corrected, and the range uncorrected."
    yield _prices(result["prices"])
    alike = f"Steps composed alike: {same:,} of {steps:,}"
    if result["acceptance"] == "own":
        shares = [cell["as_recorded"] for cell in cells if cell["draft_tokens"]]
        alike += f"\nRequests that accepted what they did in the first serving: {sum(shares) / len(shares):.0%}"
    yield alike
    if result["ratios"]:
        yield "Mean JCT over the baseline's."
        yield _ratios(result["ratios"])
    yield "\n".join(_order(row) for row in result["ranking"])
    yield from result["drift"]


def _errors(rows: Sequence[Row]) -> _Table:
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        found.setdefault((row["draft_tokens"], row["load"], row["policy"]), {})[row["metric"]] = row
    lines = []
    for (drafts, load, policy), mine in found.items():
        jct, tail = mine["jct_mean_s"], mine["jct_p99_s"]
        cells = [str(drafts), f"{load:g}", policy, f"{jct['executed']:.3f} s"]
        cells += [_spread(jct), _percent(jct["corrected_error"]), _percent(jct["error"])]
        cells += [_spread(tail), _percent(tail["corrected_error"]), _percent(tail["error"])]
        others = ("ttft_mean_s", "tpot_mean_s", "throughput_tps")
        lines.append(cells + [_percent(mine[name]["corrected_error"]) for name in others])
    head = ["k", "load", "policy", "JCT", "95 %", "mean", "raw", "95 %", "p99", "raw", "TTFT", "TPOT", "tokens/s"]
    return _Table(head, lines, NAMED)


def _kept(rows: Sequence[Row]) -> _Table:
    lines = []
    for row in rows:
        worst, ratios = row["worst"], row["what"] == "ratios"
        limit = f"{row['within']:g}" if ratios else f"{100 * row['within']:g} %"
        wider = f", or half its interval up to {100 * row['at_most']:g} %" if row["at_most"] else ""
        size = f"{worst['error']:+.3f}" if ratios else f"{_percent(worst['error'])} %"
        where = f"{worst['policy']}, load {worst['load']:g}, k = {worst['draft_tokens']}"
        lines.append([row["what"], limit + wider, f"{row['kept']} of {row['of']}", size, where])
    head = ["error of", "within", "rows", "worst", "where"]
    return _Table(head, lines, len(head))


def _spread(row: Row) -> str:
    """Return half of the 95 % interval of what was executed."""
    return "-" if row["half_interval"] is None else f"±{100 * row['half_interval']:.0f}"


def _prices(rows: Sequence[Row]) -> _Table:
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
    return _Table(["k", "step", "of time", "taken / priced", "corrected", "cells"], lines, 2)


def _ratios(rows: Sequence[Row]) -> _Table:
    lines = [
        [str(row["draft_tokens"]), f"{row['load']:g}", row["policy"]]
        + [f"{row[side]:.3f}" for side in ("executed", "simulated", "corrected")]
        for row in rows
    ]
    return _Table(["k", "load", "policy", "executed", "simulated", "corrected"], lines, NAMED)


def _order(row: Row) -> str:
    executed, simulated = (" < ".join(row[side]) for side in ("executed", "simulated"))
    same = "the same" if executed == simulated else simulated
    return f"load {row['load']:g}, k = {row['draft_tokens']}: {executed}; simulated {same}"


def _percent(share: float) -> str:
    return f"{100 * share:+.1f}"
