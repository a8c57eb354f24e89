"""The words around the table: title, what was counted, what the numbers rest on, warnings and advice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lapsbench.metrics.pool import loads, policies, select
from lapsbench.metrics.recomputing import together
from lapsbench.metrics.sketch import ERROR
from lapsbench.metrics.verdicts import nobody_waited
from lapsbench.metrics.worth import missing
from lapsbench.report.table_columns import TAIL_N
from lapsbench.report.units import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lapsbench.core import Engine
    from lapsbench.metrics.result import ReplayResult
    from lapsbench.metrics.summary import CellSummary

ADVICE = 3
"""Lines of advice: more are not read."""
STOPPED = {"stalled": "none got further", "overrun": "hardly got further"}
"""Why a run ended early."""
CROWDED = "its queue grew without bound, and was full; try a lower --load, or a --window before it grows"
LET_RUN = "try --on-preempt keep, more --kv-tokens, or a policy that does not preempt"
ABSURD = 10.0
"""A load above this is a mistake more often than a question: `--load` takes no more either."""
BUSY = 0.85
"""From this load on, a batch that never fills is too large for the trace, not the load too low."""
LONGEST_SCHEDULE = 60
"""Letters of a schedule that a line has room for."""


def title(result: ReplayResult) -> str:
    """Say what was replayed, in one line."""
    asked = loads(result.cells)
    if len(asked) == 1:
        load = offered(result, asked[0])
    else:
        load = "loads " + ", ".join(f"{each:g}" for each in asked if each is not None)
    seeds = count(len({cell.seed for cell in result.cells}), "seed")
    return f"{result.trace} on {result.profile}, {load}, {seeds}, predict {result.predict}"


def offered(result: ReplayResult, load: float | None) -> str:
    """Say how much traffic was offered."""
    rates = {cell.metrics["offered_rps"] for cell in result.cells if cell.load == load} - {None}
    fastest = max((each for each in rates if each), default=None)
    rate = f"{fastest:.3g} req/s" if fastest else "all at once"
    if load is not None:
        return f"load {load:g} ({rate})"
    share = f", load {fastest / result.capacity_rps:.2f}" if fastest else ""
    return f"rate {rate}{share}" if result.rate_rps else f"the trace's own clock ({rate}{share})"


def engine(result: ReplayResult) -> str:
    """Say what engine was simulated, or on which it was executed."""
    it = result.engine
    rules = f"executed on {result.executed}" if result.executed else result.rules
    memory = f"{it.kv_tokens:,} tokens" if it.kv_tokens else "unlimited"
    drafts = drafted(it)
    if it.rules == "ideal":
        budget = f"{it.prefill_budget:,} tokens a step" if it.prefill_budget else "unlimited"
        return (
            f"engine: {rules}, batch {it.max_batch}, {drafts}, prefill {budget}, KV cache {memory}, "
            f"on preempt {it.on_preempt}"
        )
    blocks = f" in blocks of {it.block_tokens}" if it.kv_tokens else ""
    by = f" ({it.draft_method})" if it.draft_tokens else ""
    longest = f", contexts up to {it.max_model_len:,}" if it.max_model_len else ""
    return (
        f"engine: {rules}, batch {it.max_batch}, {drafts}{by}, {it.batched_tokens:,} tokens a step, "
        f"KV cache {memory}{blocks}, prefix cache {'on' if it.prefix_cache else 'off'}, "
        f"on preempt {it.on_preempt}, {it.scheduling}{longest}"
    )


def drafted(it: Engine) -> str:
    """Say how many tokens are drafted a round, and who says so."""
    if not it.drafts:
        return count(it.draft_tokens, "draft token")
    if it.schedule and len(it.schedule) <= LONGEST_SCHEDULE:
        return f"drafts {it.schedule}"
    return f"up to {count(it.draft_tokens, 'draft token')} ({it.drafts})"


def conservation(result: ReplayResult, load: float | None) -> Iterator[str]:
    """Say that no request was lost: one line, or one per group of policies that differ."""
    groups: dict[str, list[str]] = {}
    for policy in policies(result.cells):
        cells = select(result.cells, policy, load)
        if cells:
            arrivals, finished, rejected, unfinished = (
                sum(getattr(cell, name) for cell in cells)
                for name in ("arrivals", "finished", "rejected", "unfinished")
            )
            text = f"arrivals {arrivals:,} = {finished:,} finished + {rejected:,} rejected + {unfinished:,} unfinished"
            groups.setdefault(text, []).append(cells[0].label)
    for text, labels in groups.items():
        yield f"{text}, under {'every policy' if len(groups) == 1 else ', '.join(labels)}"


def facts(result: ReplayResult) -> Iterator[tuple[str, str]]:
    """Say what the numbers rest on."""
    if any(cell.oracle for cell in result.cells):
        yield "*", "an oracle: knows what no scheduler can; not a choice"
    for label, bounds in {cell.label: cell.bounds for cell in result.cells if cell.bounds}.items():
        yield "bound", f"{label}: {bounds}"
    yield "profile", result.provenance
    if result.calibration:
        yield "calibration", result.calibration
    yield "warm-up", _warmup(result)
    if any(cell.approximate for cell in result.cells):
        yield "quantiles", f"from a sketch: within {100 * ERROR:.1g} % of what sorting all requests would give"
    yield "intervals", _intervals(result)
    beyond = max(cell.metrics["lookups_beyond_fraction"] or 0.0 for cell in result.cells)
    if beyond:
        yield "cost grid", f"up to {100 * beyond:.2g} % of the look-ups lie beyond what was measured (extrapolated)"
    if rejected := max(cell.rejected for cell in result.cells):
        yield "rejected", f"{count(rejected, 'request')} that can never fit {_room(result.engine)}"
    for note in result.notes:
        yield "note", note


def _gentler(it: Engine) -> str:
    """Return what does less with a preempted request's memory than to drop it."""
    return "swap" if it.rules == "ideal" else "keep"


def _room(it: Engine) -> str:
    """Say what a request did not fit."""
    if it.rules == "ideal":
        return f"--kv-tokens {it.kv_tokens:,} (prompt + output + k + 1 tokens)"
    limit = f"--max-model-len {it.max_model_len:,}" if it.context_limit == it.max_model_len else "all KV blocks"
    return f"{limit} (prompt + output tokens)"


def warnings(result: ReplayResult) -> Iterator[str]:
    """Say which numbers not to believe."""
    if times := _far_too_fast(result):
        yield (
            f"on its own clock the trace offers {times:,.3g} times what the engine can serve; try --load 0.9, or "
            "--time-unit, if its arrivals were read in another unit than theirs"
        )
    for load in loads(result.cells):
        for label in ("OVERLOADED", "GROWING"):
            yield from _growth(result, load, label)
    for policy in policies(result.cells):
        yield from _left([cell for cell in result.cells if cell.policy == policy and cell.unfinished])
    for load in loads(result.cells):
        yield from _thrash(result, load)
    least = min(cell.measured for cell in result.cells)
    if least < TAIL_N:
        yield f"p99 rests on {count(least, 'request')} per seed: fewer than {TAIL_N:,} make it a guess"


def advice(result: ReplayResult) -> Iterator[str]:
    """Say what to try next, most useful first."""
    seeds = len({cell.seed for cell in result.cells})
    if nobody_waited(result.cells):
        what = "--max-batch 16, or more requests" if _busy(result) else "--load 0.9"
        yield f"{what}: nobody waited for a place here, so every scheduler did the same"
    if min(cell.measured for cell in result.cells) < TAIL_N:
        yield "more requests (--limit, or a longer trace): the tail needs 1,000 measured ones"
    if seeds < 3:
        why = "one seed's interval is an approximation" if seeds == 1 else "two seeds make wide intervals"
        yield f"--repeats 5: {why}"
    if any((cell.metrics["lookups_beyond_fraction"] or 0.0) > 0.01 for cell in result.cells):
        yield "a smaller --max-batch, or a profile measured on a wider grid: costs beyond the grid are extrapolated"
    if needed := missing(result.cells):
        yield f"{' '.join(f'--policy {name}' for name in needed)}: to see what knowing lengths and acceptance is worth"
    if not result.slo:
        yield "--slo ttft:500,tpot:50: to see the goodput your users would get"


def _warmup(result: ReplayResult) -> str:
    cuts = sorted({cell.warmup for cell in result.cells})
    if cuts == [0]:
        return "nothing cut: latencies are those of all finished requests"
    first = f"{cuts[0]:,}" if len(cuts) == 1 else f"{cuts[0]:,} to {cuts[-1]:,}"
    arrivals = max(cell.arrivals for cell in result.cells)
    return f"first {first} of {arrivals:,} arrivals left out of latencies (MSER-5)"


def _intervals(result: ReplayResult) -> str:
    used = {(each.method, each.units) for each in result.comparisons if each.metric == "jct_mean_s"}
    for method, unit in (("seeds", "seed"), ("blocks", "block")):
        if sizes := [size for kind, size in used if kind == method]:
            of_what = "" if method == "seeds" else " of consecutive arrivals, same requests on both sides"
            return f"95 %, paired over {count(max(sizes), unit)}{of_what}"
    return "none: too few requests for blocks, and one seed"


def _growth(result: ReplayResult, load: float | None, label: str) -> Iterator[str]:
    growing = [
        cells for policy in policies(result.cells) if _mostly(cells := select(result.cells, policy, load), label)
    ]
    if not growing:
        return
    names = ", ".join(cells[0].label for cells in growing)
    share = max(cell.saturation.growth_per_arrival for cells in growing for cell in cells if cell.saturation)
    one = len(growing) == 1
    yield (
        f"{names} {'is' if one else 'are'} {label}{_at(load)}: up to {100 * share:.0f} of 100 arrivals pile up until "
        f"the trace ends, so {'its' if one else 'their'} mean depends on its length; try {_less(result, load)}"
    )


def _left(cells: Sequence[CellSummary]) -> Iterator[str]:
    """Say what one policy left, in all the cells in which it left anything."""
    if not cells:
        return
    left, arrivals = (sum(getattr(cell, name) for cell in cells) for name in ("unfinished", "arrivals"))
    seeds = len({cell.seed for cell in cells})
    over = f" over {seeds} seeds" if seeds > 1 else ""
    yield (
        f"{cells[0].label}{_at(*loads(cells))} left {left:,} of {arrivals:,} requests unfinished{over}{_why(cells)}: "
        "its latencies leave them out, which flatters it"
    )


def _why(cells: Sequence[CellSummary]) -> str:
    """Say why they ended early, each reason once."""
    reasons = dict.fromkeys(cell.stopped for cell in cells if cell.stopped)
    if not reasons:
        return ""
    if reasons.keys() == {"crowded"}:
        return f" (stopped: {CROWDED})"
    if not reasons.keys() <= STOPPED.keys():
        return f" ({', '.join(reasons)})"
    text = " or ".join(STOPPED[reason] for reason in reasons)
    return f" (stopped: jobs kept displacing each other and {text}; {LET_RUN})"


def _thrash(result: ReplayResult, load: float | None) -> Iterator[str]:
    """Say whose preemptions made the engine compute too much again, and how often the worst request was preempted."""
    found = []
    for policy in policies(result.cells):
        cells = select(result.cells, policy, load)
        again = together([cell.recomputing for cell in cells if cell.recomputing])
        if again.thrashes:
            times = count(again.preemptions_max, "time")
            found.append(f"{cells[0].label} {100 * again.share:,.0f} % (one request was preempted {times})")
    if found:
        yield (
            f"recomputing{_at(load)}: after preemptions, tokens were computed again, as a share of prompt tokens, by "
            f"{', '.join(found)}; try more --kv-tokens, a smaller --max-batch, or "
            f"--on-preempt {_gentler(result.engine)}"
        )


def _far_too_fast(result: ReplayResult) -> float:
    """Return the load of the trace's own clock where no engine is meant to be offered it; else 0."""
    if result.rate_rps is not None:
        return 0.0
    rates = (cell.metrics["offered_rps"] or 0.0 for cell in result.cells if cell.load is None)
    load = max(rates, default=0.0) / result.capacity_rps
    return load if load > ABSURD else 0.0


def _busy(result: ReplayResult) -> bool:
    """Whether the traffic offered, at its most, comes close to what the engine can serve."""
    rates = {cell.metrics["offered_rps"] for cell in result.cells}
    return None in rates or max(rate or 0.0 for rate in rates) >= BUSY * result.capacity_rps


def _mostly(cells: Sequence[CellSummary], label: str) -> bool:
    """Whether at least half of the seeds wear the label."""
    wearing = sum(bool(cell.saturation and cell.saturation.label == label) for cell in cells)
    return wearing > 0 and 2 * wearing >= len(cells)


def _less(result: ReplayResult, load: float | None) -> str:
    """Advise the next load below that of the warning, in tenths of capacity; as a rate where a rate was asked for."""
    rates = [cell.metrics["offered_rps"] for cell in result.cells if cell.load == load]
    asked = load if load is not None else max(rate or math.inf for rate in rates) / result.capacity_rps
    less = math.floor(10 * min(asked, 1.0) - 0.5) / 10 or asked / 2
    return f"--rate {less * result.capacity_rps:.3g}" if result.rate_rps else f"--load {less:.2g}"


def _at(*where: float | None) -> str:
    known = [f"{load:g}" for load in where if load is not None]
    return f" at load{'s' if len(known) > 1 else ''} {', '.join(known)}" if known else ""
