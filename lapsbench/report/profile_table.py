"""Print a profile: step times, acceptance by category, the speed-up to expect; and a plan, before anything is measured.

Knows nothing of torch, for it reads a `Summary` or a `Plan`; nor of rich, which machines with a GPU may not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lapsbench.report.table_columns import Column, Glyphs
from lapsbench.report.units import UNDEFINED, column, count, time_unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lapsbench.profile.estimate import Plan
    from lapsbench.profile.speedup import Step, Summary
    from lapsbench.report.screen import Screen

GAP = 2
MOST_DRAFTS = 8
"""Columns of k that a terminal has room for."""


def render(summary: Summary, screen: Screen) -> None:
    """Print what was measured, and what it promises."""
    glyphs = Glyphs.fitting(terminal=screen.terminal, unicode=screen.unicode)
    screen.say(f"{summary.name}: {summary.label}", "bold")
    screen.say(_counted(summary))
    screen.say()
    screen.say(f"step time at context {summary.context:,}")
    _table(screen, _steps(summary), glyphs)
    if summary.acceptance:
        screen.say()
        screen.say("acceptance of the recorded prompts, and tokens a round at k drafts")
        _table(screen, _acceptance(summary), glyphs)
        screen.say()
        screen.say(f"expected speed-up over plain decoding at context {summary.context:,}, at k drafts")
    elif summary.drafts:
        screen.say()
        screen.say(f"tokens a round must give to break even at context {summary.context:,}, at k drafts")
    if summary.drafts:
        _table(screen, _promises(summary), glyphs)


def render_plan(plan: Plan, screen: Screen) -> None:
    """Print what would be measured."""
    grid, sizes = plan.grid, plan.sizes
    screen.say(f"would measure {count(len(grid.points()), 'point')} on {plan.device}", "bold")
    for label, text in (
        ("batches", _listed(grid.batches)),
        ("contexts", _listed(grid.axes.contexts)),
        ("drafts", f"1 to {grid.draft_tokens} a round, {grid.draft_tokens + 1} tokens verified"),
        *(("mixed", text) for text in _mixed(plan)),
        ("weights", f"{_gb(sizes.weights_bytes)} target, {_gb(sizes.draft_weights_bytes)} draft beside it"),
        ("KV cache", f"{sizes.kv_bytes:,} bytes a token, draft {sizes.draft_kv_bytes:,}"),
        ("memory", f"{_gb(plan.bytes)} at most, of {_gb(sizes.memory_bytes)}"),
        ("time", f"about {_duration(plan.seconds)} for the costs, by the speed of a common device"),
        *(("left out", f"{each}: does not fit") for each in grid.left_out),
    ):
        screen.say(f"{label:<10}{text}")


def _mixed(plan: Plan) -> Iterable[str]:
    grid = plan.grid
    if grid.rounds:
        chunks = f"chunks of {_listed(grid.chunks)} over {' or '.join(f'{each:,}' for each in grid.chunk_contexts)}"
        yield f"{chunks} cached tokens, beside {_listed(grid.rounds)} rounds"


def _counted(summary: Summary) -> str:
    parts = [count(summary.points, "grid point")]
    known = summary.provenance
    if "points" in known:
        settled = known["points"]["measured"] - known["points"]["unsettled"]
        parts.append(f"{settled} settled within 2 %")
    if "clock" in known:
        parts.append(f"timed by {known['clock']}")
    if known.get("verify_1_over_weights_read"):
        parts.append(
            f"a plain step takes {known['verify_1_over_weights_read']:.2f} times as long as copying the weights"
        )
    for step, ratio in (known.get("eager_over_graphs") or {}).items():
        parts.append(f"{step} without graphs {ratio:.2f} times as long")
    return "; ".join(parts)


def _steps(summary: Summary) -> list[Column]:
    steps, most = summary.steps, summary.drafts[-1] if summary.drafts else 0
    times = [[each.plain_s for each in steps], [each.draft_s for each in steps], [each.verify_s for each in steps]]
    times.append([each.overhead_s for each in steps])
    unit, scale = time_unit([value for values in times for value in values])
    heads = (("plain", f"step {unit}"), (f"draft {most}", unit), (f"verify {most + 1}", unit), ("overhead", unit))
    return [
        Column(("", "batch"), [f"{each.batch:,}" for each in steps]),
        *(Column(head, column(values, scale)) for head, values in zip(heads, times, strict=True)),
        Column(("draft/target", "for one token"), column([each.token_ratio for each in steps])),
    ]


def _acceptance(summary: Summary) -> list[Column]:
    rows = summary.acceptance
    gains = [
        Column(("", f"k={summary.drafts[place]}"), [f"{each.tokens_per_round[place]:.2f}" for each in rows])
        for place in _shown(summary)
    ]
    return [
        Column(("", "category"), [each.category for each in rows], left=True),
        Column(("", "prompts"), [f"{each.prompts:,}" for each in rows]),
        Column(("output", "tokens"), [f"{each.output_tokens:,}" for each in rows]),
        Column(("first draft", "accepted"), [f"{100 * each.first_draft:.0f} %" for each in rows]),
        *gains,
    ]


def _promises(summary: Summary) -> list[Column]:
    steps, shown = summary.steps, _shown(summary)
    found = [Column(("", "batch"), [f"{each.batch:,}" for each in steps])]
    for place in shown:
        values = [(each.speedups or each.rounds)[place] for each in steps]
        best = frozenset(row for row, each in enumerate(steps) if each.best == summary.drafts[place])
        texts = [UNDEFINED if value is None else f"{value:.2f}" for value in values]
        found.append(Column(("", f"k={summary.drafts[place]}"), texts, best))
    if summary.acceptance:
        found.append(Column(("", "best"), [_best(each) for each in steps], left=True))
    return found


def _best(step: Step) -> str:
    if step.best is None:
        return UNDEFINED
    return f"k={step.best}" if step.best else "plain"


def _shown(summary: Summary) -> list[int]:
    """Return places of the drafts that get a column: all, or every so many and the last."""
    total = len(summary.drafts)
    if not total:
        return []
    stride = -(-total // MOST_DRAFTS)
    return sorted({*range(0, total, stride), total - 1})


def _table(screen: Screen, columns: Sequence[Column], glyphs: Glyphs) -> None:
    for place in (0, 1):
        if any(each.head[place] for each in columns):
            screen.line(_row(_pad(each, each.head[place]) for each in columns))
    screen.line(screen.styled(glyphs.rule * (sum(each.width for each in columns) + GAP * (len(columns) - 1)), "dim"))
    for row in range(len(columns[0].texts)):
        cells = ((_pad(each, each.texts[row]), row in each.best) for each in columns)
        screen.line(_row(screen.styled(text, "bold") if best else text for text, best in cells))


def _row(cells: Iterable[str]) -> str:
    return (" " * GAP).join(cells).rstrip()


def _pad(each: Column, text: str) -> str:
    return text.ljust(each.width) if each.left else text.rjust(each.width)


def _listed(values: Sequence[int]) -> str:
    return ", ".join(f"{each:,}" for each in values)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
