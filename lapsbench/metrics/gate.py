"""A gate as typed: `jct_p99 > +5%`, or for one policy `laps-sd: jct_mean > +5%`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lapsbench.errors import UsageError
from lapsbench.metrics.catalog import BY_NAME, METRICS

if TYPE_CHECKING:
    from lapsbench.metrics.change import Change

SHAPE = re.compile(r"(?:(?P<policy>.+?)\*?\s*:\s*)?(?P<metric>\w+)\s*(?P<side>[<>])\s*(?P<limit>[+-]?[\d.]+)\s*%")
EXAMPLE = '"jct_p99 > +5%", or "laps-sd: jct_mean > +5%"'

Outcome = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True, slots=True)
class Gate:
    """Fails where a metric changed beyond a limit.

    Attributes:
        policy: None for every policy.
        metric: its name in `--json`.
        above: whether the change must not be above the limit; else not below.
        limit: as a ratio to before: 1.05 for +5 %.
    """

    text: str
    policy: str | None
    metric: str
    above: bool
    limit: float

    def concerns(self, change: Change) -> bool:
        """Whether it is about this policy and metric."""
        return change.metric == self.metric and self.policy in (None, change.policy)

    def judge(self, change: Change) -> Outcome:
        """Fail only where the whole interval is beyond the limit; pass only where none of it is."""
        if change.low is None or change.high is None:
            return "undecided"
        if self.above:
            near, far = change.low, change.high
            return "failed" if near > self.limit else "passed" if far <= self.limit else "undecided"
        near, far = change.high, change.low
        return "failed" if near < self.limit else "passed" if far >= self.limit else "undecided"


def parse_gate(text: str) -> Gate:
    """Read a gate; a metric's unit may be left out.

    Raises:
        UsageError: not a gate, an unknown metric, one of which a change says nothing.
    """
    found = SHAPE.fullmatch(text.strip())
    try:
        limit = float(found["limit"]) if found else math.nan
    except ValueError:
        limit = math.nan
    if found is None or not math.isfinite(limit):
        raise UsageError(f"{text!r} is not a gate", where="--fail-if", hint=EXAMPLE)
    metric = next((name for name in BY_NAME if found["metric"] in (name, short_name(name))), None)
    if metric is None or BY_NAME[metric].better == "neither":
        known = ", ".join(short_name(each.name) for each in METRICS if each.better != "neither")
        raise UsageError(f"no gate on {found['metric']!r}", where="--fail-if", hint=f"one of: {known}")
    return Gate(text.strip(), found["policy"], metric, found["side"] == ">", 1 + limit / 100)


def short_name(metric: str) -> str:
    """Return a metric's name without its unit."""
    return metric.removesuffix("_per_s").removesuffix("_rps").removesuffix("_s")
