"""How a description of a trace looks at a terminal: a few lines of figures, and the rate over time as a sketch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.cli.console import laid_out
from lapsbench.report.spark import ASCII, BLOCKS
from lapsbench.traces.figures import PROBABILITIES
from lapsbench.traces.over_time import WINDOWS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lapsbench.core import Floats
    from lapsbench.traces.description import Description

SHOWN = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
ROWS = 4


def text(found: Description) -> str:
    """Return all of it, a line a fact."""
    return "".join(f"{line}\n" for line in _lines(found))


def _lines(found: Description) -> Iterator[str]:
    numbers, spread = found.figures, found.over_time
    about = ", ".join(filter(None, [found.format and f"format {found.format}", found.label]))
    yield f"{found.name}: {numbers.requests:,} requests over {found.span_s:,.6g} s" + (f" ({about})" if about else "")
    yield ""
    yield f"rate              {_number(numbers.rate_rps)} requests/s"
    yield f"inter-arrival CV  {_number(numbers.gap_cv)} (1: Poisson)"
    pairs = zip(spread.dispersion, WINDOWS_S, strict=True)
    shown = ", ".join(f"{_number(value)} in {window} s" for value, window in pairs)
    yield f"burstiness        {shown} (variance over mean of arrivals; 1: Poisson)"
    heaviest = f"{spread.heaviest_requests:,} requests from {spread.heaviest_start_s:,.6g} s on"
    yield f"heaviest minute   {heaviest}, {spread.heaviest_requests / 60:.3g} requests/s"
    named = {"clients": found.clients, "categories": found.categories, "prompts": found.prompts}
    there = [f"{number:,} {name}" for name, number in named.items() if number is not None]
    there += ["predictions"] if found.predictions else []
    there += ["priorities"] if found.priorities else []
    yield f"also has          {', '.join(there) or 'no clients, categories, prompts, predictions or priorities'}"
    yield ""
    yield from laid_out(_quantiles(found)).splitlines()
    yield f"rank correlation of prompt and output: {_number(numbers.rank_correlation)}"
    yield ""
    yield from _sketch(spread.rates_rps, spread.bin_s)


def _quantiles(found: Description) -> list[dict[str, object]]:
    rows = (("prompt", found.figures.prompt_quantiles), ("output", found.figures.output_quantiles))
    return [
        {"tokens": name}
        | {
            f"p{100 * share:g}": round(value)
            for share, value in zip(PROBABILITIES, values, strict=True)
            if share in SHOWN
        }
        for name, values in rows
    ]


def _sketch(rates_rps: Floats, bin_s: float) -> Iterator[str]:
    """Yield bars of the rate, `ROWS` characters high."""
    if not bin_s:
        yield "all requests arrive at once"
        return
    levels = BLOCKS if (sys.stdout.encoding or "").lower().startswith("utf") else ASCII
    peak = float(rates_rps.max())
    heights = np.round(rates_rps / peak * ROWS * len(levels)).astype(int)
    for row in reversed(range(ROWS)):
        filled = np.clip(heights - row * len(levels), 0, len(levels))
        label = f"{peak:9.3g} |" if row == ROWS - 1 else "        0 |" if row == 0 else "          |"
        yield label + "".join(levels[height - 1] if height else " " for height in filled).rstrip()
    yield f"requests/s over time, {bin_s:.3g} s a character"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
