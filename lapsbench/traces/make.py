"""Makes a trace to order: lengths like another trace's or drawn, arrivals by a process, clients with shares."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lapsbench.core import Trace
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.streams import stream
from lapsbench.traces.lengths import lengths
from lapsbench.traces.open import open_trace
from lapsbench.traces.processes import arrivals
from lapsbench.traces.recipes import RECIPES
from lapsbench.traces.synthetic import generate

if TYPE_CHECKING:
    from lapsbench.core import Strings

MOST_REQUESTS = 100_000_000


@dataclass(frozen=True, slots=True)
class Order:
    """What to make.

    Attributes:
        like: a shipped recipe ("chat", "code"), or a trace, or lengths alone, whose rows are drawn from.
        columns: of that trace, where its layout is its user's own.
        rate_rps: requests / span; None for that of `like`.
        requests: how many; or as many as arrive in duration_s.
        arrivals: a process; None for the recipe's own, and Poisson after a trace.
        prompt, output: lengths; None for those of `like`.
        clients: how many that share alike, or their shares: "5,1,1"; None for the recipe's.
    """

    like: str = "chat"
    columns: str | None = None
    rate_rps: float | None = None
    requests: int | None = None
    duration_s: float | None = None
    arrivals: str | None = None
    prompt: str | None = None
    output: str | None = None
    clients: str | None = None
    seed: int = 0


def make(order: Order) -> Trace:
    """Make a trace; the same order makes the same one.

    Raises:
        UsageError: an order that means nothing.
        LapsbenchError: the trace to be like cannot be read.
    """
    recipe = next((recipe for recipe in RECIPES if recipe.name == order.like), None)
    if recipe is not None:
        rate_rps = _rate(order, recipe.rate_rps)
        made = generate(replace(recipe, rate_rps=rate_rps), _requests(order, rate_rps), order.seed)
    else:
        model = open_trace(order.like, columns=order.columns, arrivals=False)
        if order.rate_rps is None and model.rate_rps is None:
            timed = "first_arrival" in model.provenance
            why = "has a single request" if len(model) == 1 else "has all its requests at the same time"
            why = why if timed else "does not say who arrives when"
            raise LapsbenchError(f"{why}: no rate to make a trace of", where=order.like, hint="--rate 12")
        rate_rps = _rate(order, model.rate_rps)
        made = _resampled(model, _requests(order, rate_rps), order.seed)
    n = len(made)
    if order.arrivals is not None or recipe is None:
        made = replace(made, arrival_s=arrivals(order.arrivals or "poisson", n, rate_rps, order.seed))
    if order.prompt is not None:
        made = replace(made, prompt_tokens=lengths(order.prompt, "prompt", n, order.seed))
    if order.output is not None:
        made = replace(made, output_tokens=lengths(order.output, "output", n, order.seed))
    if order.clients is not None:
        made = replace(made, client_id=_clients(order.clients, n, order.seed))
    return replace(made, name="made", provenance={"label": "generated, not recorded", "order": asdict(order)})


def _resampled(model: Trace, n: int, seed: int) -> Trace:
    """Return n requests, each with the prompt and output of one row; all arrive at 0."""
    rows = stream(seed, "trace rows").integers(0, len(model), n)
    return Trace("", np.zeros(n), model.prompt_tokens[rows], model.output_tokens[rows], notes=model.notes)


def _rate(order: Order, own: float | None) -> float:
    rate_rps = own if order.rate_rps is None else order.rate_rps
    if rate_rps is None or not (math.isfinite(rate_rps) and 1e-9 <= rate_rps <= 1e9):
        raise UsageError(f"{rate_rps} is no rate", where="--rate", hint="requests per second, such as 12")
    return rate_rps


def _requests(order: Order, rate_rps: float) -> int:
    if order.requests is not None and order.duration_s is not None:
        raise UsageError("exclude each other", where="--requests and --duration", hint="one of the two")
    if order.duration_s is None:
        return _sensible(5000 if order.requests is None else order.requests, "--requests")
    if not (math.isfinite(order.duration_s) and order.duration_s > 0):
        raise UsageError(f"{order.duration_s} is no stretch of time", where="--duration", hint="seconds, above 0")
    return _sensible(max(round(min(rate_rps * order.duration_s, 1e18)), 1), "--duration")


def _sensible(n: int, flag: str) -> int:
    if not 1 <= n <= MOST_REQUESTS:
        raise UsageError(f"{n:,} requests", where=flag, hint=f"1 to {MOST_REQUESTS:,}")
    return n


def _clients(text: str, n: int, seed: int) -> Strings:
    """Return strings [n]: whose request each is, drawn by the clients' shares."""
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) == 1 and shares[0] >= 1 and shares[0].is_integer() and shares[0] <= 100_000:
        shares = [1.0] * int(shares[0])
    elif len(shares) < 2 or not all(math.isfinite(share) and share > 0 for share in shares):
        raise UsageError(f"{text!r}", where="--clients", hint="how many, such as 4, or their shares, such as 5,1,1")
    width = len(str(len(shares)))
    names = np.array([f"client-{k:0{width}d}" for k in range(1, len(shares) + 1)], dtype=object)
    weights = np.array(shares) / sum(shares)
    return names[stream(seed, "trace clients").choice(len(shares), n, p=weights)]
