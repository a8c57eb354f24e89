"""What comparing two runs says, on the terminal and as Markdown: changes, gates, and what else differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from lapsbench.metrics.gate import short_name
from lapsbench.report.github import plain, table
from lapsbench.report.units import column as written
from lapsbench.report.units import count, time_unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from lapsbench.metrics.change import Change
    from lapsbench.versus import Judged, Versus

HEADS = ("policy", "load", "metric", "before", "after", "change", "95 % from", "to", "verdict")
LEFT = frozenset({0, 2, 8})
STYLES = {"better": "green", "worse": "bold red", "undecided": "dim", "failed": "bold red", "passed": "green"}
UNPAIRED = 6
"""Lines about cells without a partner."""


def headline(found: Versus) -> str:
    """Say in one line what the comparison comes to."""
    verdicts = [change.verdict for change in found.changes]
    counted = ", ".join(f"{verdicts.count(name)} {name}" for name in ("better", "same", "worse", "undecided"))
    if all(change.method == "identical" for change in found.changes):
        return f"{found.before} and {found.after} are the same: every request fared identically."
    return f"{found.after} against {found.before}, in {len(verdicts)} comparisons: {counted}."


def rows(changes: Sequence[Change]) -> list[list[str]]:
    """Return a row of texts per change, under `HEADS`; one unit and one number of decimals a metric."""
    texts: dict[int, tuple[str, str, str]] = {}
    for metric in dict.fromkeys(change.metric for change in changes):
        mine = [place for place, change in enumerate(changes) if change.metric == metric]
        values = [side for place in mine for side in (changes[place].before, changes[place].after)]
        unit, scale = time_unit(values) if metric.endswith("_s") else ("", 1.0)
        numbers = written(values, scale)
        name = f"{short_name(metric)} {unit}".rstrip()
        for number, place in enumerate(mine):
            texts[place] = (name, numbers[2 * number], numbers[2 * number + 1])
    return [_row(change, *texts[place]) for place, change in enumerate(changes)]


def gates(judged: Sequence[Judged]) -> Iterator[tuple[str, str]]:
    """Return an outcome and its words: every failure, every doubt, and for each gate how often it passed."""
    for gate in dict.fromkeys(each.gate for each in judged):
        mine = [each for each in judged if each.gate == gate]
        for outcome in ("failed", "undecided"):
            yield from ((outcome, f"{gate.text}: {_case(each.change)}") for each in mine if each.outcome == outcome)
        if passed := sum(each.outcome == "passed" for each in mine):
            yield "passed", f"{gate.text}: in {passed} of {count(len(mine), 'case')}"


def _case(change: Change) -> str:
    at = "" if change.load is None else f" at load {change.load:g}"
    what = f"{short_name(change.metric)} of {change.label}{at}"
    if change.ratio is None or change.low is None:
        return f"{what}: {change.why}"
    return f"{what} changed by {_percent(change.ratio)} % [{_percent(change.low)} to {_percent(change.high)}]"


def remarks(found: Versus) -> Iterator[str]:
    """Say what one should know beside the numbers."""
    if found.other_work:
        yield f"different work: {found.other_work}; the change is not of the scheduler alone"
    for each in found.differences:
        yield f"{each.what}: {each.before} before, {each.after} after"
    yield from found.unpaired[:UNPAIRED]
    if len(found.unpaired) > UNPAIRED:
        yield f"and {count(len(found.unpaired) - UNPAIRED, 'more cell')} that only one run has"
    for why in dict.fromkeys(f"{short_name(change.metric)}: {change.why}" for change in found.changes if change.why):
        yield f"undecided, {why}"


def render(found: Versus, console: Console) -> None:
    """Print the comparison."""
    console.print(Text(headline(found), "bold"), Text(), sep="\n", soft_wrap=True, highlight=False)
    lines = [list(HEADS), *rows(found.changes)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEADS))]
    for number, line in enumerate(lines):
        padded = [
            text.ljust(width) if place in LEFT else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        shown = Text("  ".join(padded[:-1]) + "  ")
        shown.append(line[-1], STYLES.get(line[-1], ""))
        console.print(shown, soft_wrap=True, highlight=False)
        if number == 0:
            console.print(Text("-" * (sum(widths) + 2 * (len(HEADS) - 1)), "dim"), soft_wrap=True)
    for group in ([*gates(found.judged)], [("", line) for line in remarks(found)]):
        if group:
            console.print()
        for outcome, words in group:
            label = f"{outcome:<11}" if outcome else ""
            console.print(Text.assemble((label, STYLES.get(outcome, "")), words), soft_wrap=True, highlight=False)


def versus_markdown(found: Versus) -> str:
    """Return the comparison for a pull request."""
    blocks = [f"**{plain(headline(found))}**"]
    lines = [[plain(text) for text in line] for line in rows(found.changes)]
    for line in lines:
        line[-1] = f"**{line[-1]}**" if line[-1] in ("better", "worse") else line[-1]
    blocks.append(table(HEADS, lines, left=LEFT))
    if judged := [f"- **{outcome}** {plain(words)}" for outcome, words in gates(found.judged)]:
        blocks.append("\n".join(judged))
    if said := [f"- {plain(line)}" for line in remarks(found)]:
        blocks.append("<details><summary>What else to know</summary>\n\n" + "\n".join(said) + "\n\n</details>")
    return "\n\n".join(blocks) + "\n"


def _row(change: Change, metric: str, before: str, after: str) -> list[str]:
    load = "" if change.load is None else f"{change.load:g}"
    ends = [_percent(change.ratio), _percent(change.low), _percent(change.high)]
    return [
        change.label,
        load,
        metric,
        before,
        after,
        f"{ends[0]} %" if change.ratio else "-",
        *ends[1:],
        change.verdict,
    ]


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{round(100 * (ratio - 1), 1) + 0.0:+.1f}"
