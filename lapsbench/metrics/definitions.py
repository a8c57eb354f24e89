"""What each latency metric is: one value per request, NaN where it is undefined (docs/metrics.md).

Knows nothing of windows, policies or averages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lapsbench.core import FINISHED

if TYPE_CHECKING:
    from lapsbench.core import Floats, Ints, Outcome

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """One value per request, arrival order; NaN where undefined.

    Attributes:
        finished: bool [N]; the others: float64 [N].
        itl_s: mean gap between a request's emitting steps: rounds emit once each, so there are as many gaps as rounds.
    """

    finished: Flags
    queue_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    itl_s: Floats
    itl_max_s: Floats
    jct_s: Floats
    slowdown: Floats
    acceptance_length: Floats


def request_metrics(arrival_s: Floats, output_tokens: Ints, outcome: Outcome) -> RequestMetrics:
    """Derive every per-request metric from what became of the requests."""
    drawn = latencies(arrival_s, output_tokens, outcome.first_token_s, outcome.finished_s, outcome.alone_s)
    return RequestMetrics(
        finished=outcome.status == FINISHED,
        queue_s=outcome.admitted_s - arrival_s,
        itl_s=divide(outcome.finished_s - outcome.first_token_s, outcome.rounds),
        itl_max_s=outcome.itl_max_s,
        acceptance_length=1.0 + divide(outcome.accepted_tokens, outcome.rounds),
        **drawn,
    )


def latencies(
    arrival_s: Floats, output_tokens: Ints, first_token_s: Floats, finished_s: Floats, alone_s: Floats
) -> dict[str, Floats]:
    """Derive those metrics that times alone say: they are what is drawn."""
    jct_s = finished_s - arrival_s
    return {
        "ttft_s": first_token_s - arrival_s,
        "tpot_s": divide(finished_s - first_token_s, output_tokens - 1),
        "jct_s": jct_s,
        "slowdown": divide(jct_s, alone_s),
    }


def divide(numerator: Floats | Ints, denominator: Floats | Ints) -> Floats:
    """Divide elementwise; NaN where the denominator is not above zero."""
    out = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out
