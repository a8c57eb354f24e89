"""All there is to say of a trace: its figures, how it spreads over time, its columns, and what reading it took."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lapsbench.traces.figures import PROBABILITIES, Figures, figures
from lapsbench.traces.over_time import WINDOWS_S, OverTime, over_time

if TYPE_CHECKING:
    from lapsbench.core import Strings, Trace

SCHEMA = "lapsbench.trace/1"


@dataclass(frozen=True, slots=True)
class Description:
    """A trace without its rows.

    Attributes:
        clients, categories, prompts: how many different ones; None where the trace names none.
        notes: what the reader did, for people.
    """

    name: str
    span_s: float
    figures: Figures
    over_time: OverTime
    clients: int | None
    categories: int | None
    prompts: int | None
    predictions: bool
    priorities: bool
    notes: tuple[str, ...]
    format: str
    label: str


def describe(trace: Trace) -> Description:
    """Measure a trace of at least one request."""
    return Description(
        name=trace.name,
        span_s=trace.span_s,
        figures=figures(trace),
        over_time=over_time(trace),
        clients=_different(trace.client_id),
        categories=_different(trace.category),
        prompts=_different(trace.prompt_id),
        predictions=trace.predicted_tokens is not None,
        priorities=trace.priority is not None,
        notes=trace.notes,
        format=str(trace.provenance.get("format", "")),
        label=str(trace.provenance.get("label", "")),
    )


def to_json(found: Description) -> dict[str, Any]:
    """Return a description as JSON-able values; undefined ones are null."""
    measured, spread = asdict(found.figures), asdict(found.over_time)
    for column in ("prompt_quantiles", "output_quantiles"):
        named = zip(PROBABILITIES, measured[column], strict=True)
        measured[column] = {f"p{100 * share:g}": value for share, value in named}
    spread["rates_rps"] = found.over_time.rates_rps.tolist()
    spread["dispersion"] = {f"{window}s": value for window, value in zip(WINDOWS_S, spread["dispersion"], strict=True)}
    rest = {key: value for key, value in _shallow(found).items() if key not in ("figures", "over_time")}
    return {"schema": SCHEMA, **rest, **measured, **spread}


def _shallow(found: Description) -> dict[str, Any]:
    return {key: getattr(found, key) for key in Description.__slots__}


def _different(names: Strings | None) -> int | None:
    return None if names is None else len(set(names))
