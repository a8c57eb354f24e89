"""The live requests as their policy sees them, in one array, and their ranks, asked of the compiled policy.

A request has a place in the arrays while it lives. One compiled call ranks all that are to be asked; what is in order
stays there, so that a step costs microseconds beside a thousand waiting requests.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import JOB, SYSTEM, Policy
from lapsbench.policies.binding import compiled
from lapsbench.policies.past import Past
from lapsbench.policies.uses import is_fixed, may_ask_for_reviews, reads
from lapsbench.sim.memory import address, records
from lapsbench.vllm.order import arranged, due, exchanged, heard
from lapsbench.vllm.weighing import Weighing

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from lapsbench.core import Bools, Bytes, Floats, Longs
    from lapsbench.vllm.calibrate import Learnt

log = logging.getLogger("vllm.lapsbench")
NUMBERS = ("rank", "number", "review_s", "review_step", "tokens", "client", "displaced", "order")
MARKS = ("live", "ran", "moved", "waits", "parked", "runs", "state", "request")
"""Of the board's arrays, one value per place."""


class Board:
    """Places of live requests, and what is known of the request in each.

    Attributes:
        view: what the policy sees, field by field: a column of `core.JOB`.
        rank, number: its rank, and its place in the order of arrival.
        review_s, review_step: when its policy asked to be asked again.
        tokens: prompt and emitted.
        ran, moved: it took part in a step since it was ranked; it was ranked since all were put in order.
        waits, parked: it is in the queue; it keeps its memory and does not run.
        runs, displaced: it runs; how often it lost its place to a better ranked one. Only where the policy weighs them.
        request: vLLM's own object. place: where a request is, by its name.
        ranked: how often a policy was asked.
    """

    def __init__(self, policy: Policy, learnt: Learnt, size: int = 1024) -> None:
        self.policy, self.ask_many = policy, compiled(policy)
        self.system = records(1, SYSTEM)
        self.system[0] = learnt.system[0]
        self.weighing = Weighing(policy, learnt)
        self.now_s, self.step = self.system["now_s"], self.system["step"]
        self.asks_again = not is_fixed(policy) or policy.rerank == "step"
        self.reviews = may_ask_for_reviews(policy) or self.weighing.limited
        self.clients = Clients(policy)
        self.past = Past() if reads(policy, "past_ratio") else None
        self.place: dict[str, int] = {}
        self.free: list[int] = []
        self.left: list[int] = []
        self.fresh: list[int] = []
        self.blamed = False
        self.ordered = 0
        self.order: Longs = np.zeros(0, np.int64)
        self.arrivals = self.ranked = 0
        self.jobs = records(0, JOB)
        self.rank: Floats = np.zeros(0)
        self.review_s: Floats = np.zeros(0)
        self.review_step: Floats = np.zeros(0)
        self.number: Longs = np.zeros(0, np.int64)
        self.client: Longs = np.zeros(0, np.int64)
        self.tokens: Longs = np.zeros(0, np.int64)
        self.state: Bytes = np.zeros(0, np.uint8)
        self.live: Bools = np.zeros(0, np.bool_)
        self.ran: Bools = np.zeros(0, np.bool_)
        self.moved: Bools = np.zeros(0, np.bool_)
        self.waits: Bools = np.zeros(0, np.bool_)
        self.parked: Bools = np.zeros(0, np.bool_)
        self.runs: Bools = np.zeros(0, np.bool_)
        self.displaced: Longs = np.zeros(0, np.int64)
        self.request: NDArray[np.object_] = np.zeros(0, object)
        self._grow(size)

    def _grow(self, size: int) -> None:
        """Make room for so many requests."""
        held = len(self.jobs)
        jobs = records(size, JOB)
        jobs[:held] = self.jobs
        self.jobs = jobs
        for name in (*NUMBERS, *MARKS):
            old = getattr(self, name)
            grown = np.zeros(size, old.dtype)
            grown[:held] = old
            setattr(self, name, grown)
        self.view = {name: self.jobs[name] for name in JOB.names or ()}
        self.at = address(self.jobs) + self.jobs.itemsize * np.arange(size)
        self.asked, self.told = np.zeros(size, np.int64), np.zeros(size)
        self.chosen = np.zeros(size, np.int64)
        self.addresses = (address(self.asked), address(self.told), address(self.system))
        self.free += range(size - 1, held - 1, -1)

    # who is there ---------------------------------------------------------------------------------------------------

    def add(self, known: str, request: Any, client: Hashable, fields: dict[str, Any]) -> int:
        """Give a request a place; `fields` are those of `core.JOB` that are not 0 at its arrival."""
        if not self.free:
            self.sorted()  # frees the places of those who left
        if not self.free:
            self._grow(2 * len(self.jobs))
        place = self.place[known] = self.free.pop()
        self.jobs[place] = np.zeros(1, JOB)[0]
        for name, value in fields.items():
            self.view[name][place] = value
        self.view["past_ratio"][place] = self.past.ratio(fields["prompt_tokens"]) if self.past else 1.0
        self.view["review_s"][place] = self.view["review_step"][place] = math.inf
        self.review_s[place] = self.review_step[place] = math.inf
        self.request[place], self.number[place], self.rank[place] = request, self.arrivals, math.inf
        self.client[place] = self.clients.number(client)
        self.live[place], self.ran[place], self.waits[place] = True, False, False
        self.tokens[place] = fields["prompt_tokens"]
        self.runs[place], self.displaced[place] = False, 0
        self.fresh.append(place)
        self.arrivals += 1
        return place

    def skip(self) -> int:
        """Return the number of a request that arrives and is not let in."""
        self.arrivals += 1
        return self.arrivals - 1

    def remove(self, known: str, *, finished: bool) -> None:
        """Forget a request; of one that finished, not how long it was."""
        place = self.place.pop(known)
        if self.past and finished:
            job = self.jobs[place]
            self.past.learn(int(job["prompt_tokens"]), float(job["predicted_tokens"]), int(job["emitted_tokens"]))
        self.live[place] = self.waits[place] = self.ran[place] = self.parked[place] = False
        self.request[place] = None
        self.left.append(place)  # free once it is out of the order

    # ranks ----------------------------------------------------------------------------------------------------------

    def ranks(self, now_s: float, step: int) -> Longs:
        """Ask for the ranks that may have changed; return the places of all, best first."""
        self.ask(self.due(now_s, step), now_s, step)
        return self.sorted()

    def due(self, now_s: float, step: int) -> Longs:
        """Return the places of those to ask again: they ran, their review is due, or the policy wants all of them."""
        if self.policy.rerank == "step":
            return np.flatnonzero(self.live)
        count = due(self.chosen, self.live, self.ran, self.review_s, self.review_step, now_s, step)
        return self.chosen[:count]

    def ask(self, places: Longs, now_s: float, step: int) -> None:
        """Ask the policy."""
        count = len(places)
        self.ran[places] = False
        if not count:
            return
        if self.clients.charged:
            self.view["client_tokens"][places] = self.clients.counters()[self.client[places]]
        if self.weighing.any:
            self.weighing.show(self, places)
        self.now_s[0], self.step[0] = now_s, step
        np.take(self.at, places, out=self.asked[:count])
        asked, told, system = self.addresses
        self.ask_many(asked, told, count, system)
        if not heard(places, self.told, self.rank, self.moved):
            self._blame()
        if self.weighing.any:
            self.weighing.limit(self, places)
        if self.reviews:
            for name, kept in (("review_s", self.review_s), ("review_step", self.review_step)):
                kept[places] = self.view[name][places]
        self.ranked += count

    def _blame(self) -> None:
        """Say whose fault it is that some go last."""
        if not self.blamed:
            self.blamed = True
            log.warning("lapsbench: policy %r returned NaN; such requests go last. Guard divisions", self.policy.name)

    def sorted(self) -> Longs:
        """Return the places of all, by rank, then by arrival."""
        count = self.ordered + len(self.fresh)
        self.order[self.ordered : count] = self.fresh
        self.free += self.left
        self.fresh, self.left = [], []
        kept = arranged(self.order, count, self.chosen, self.live, self.moved, self.rank, self.number)
        self.ordered = kept if kept >= 0 else ~kept
        order = self.order[: self.ordered]
        if kept < 0:
            order[:] = order[np.lexsort((self.number[order], self.rank[order]))]
        return order

    def waiting(self) -> list[Any]:
        """Return those who wait: in order, and behind them those who came since all were put in order."""
        places = np.concatenate([self.order[: self.ordered], np.array(self.fresh, np.int64)])
        waiting: list[Any] = self.request[places[self.waits[places]]].tolist()
        return waiting

    def exchanged(self, best: Longs, running: Longs) -> tuple[Longs, Longs]:
        """Return who of the best runs or is parked, best first, and who of the running is not among them."""
        state, runs, out = self.state, self.chosen, self.asked
        stay, gone = exchanged(best, running, self.parked, state, runs, out)
        return runs[:stay], out[:gone]

    def worse(self, place: int) -> tuple[float, int]:
        """Return what the worst has most of: rank, then arrival."""
        return float(self.rank[place]), int(self.number[place])

    # what a step did ------------------------------------------------------------------------------------------------

    def book(self, rows: list[tuple[int, int, bool, int]], elapsed_s: float, ended_s: float, step: int) -> None:
        """Book a step: of each place the tokens it emitted, whether that was a round, and what is left to prefill."""
        if not rows:
            return
        table = np.array(rows, np.int64)
        places, emitted, left = table[:, 0], table[:, 1], table[:, 3]
        rounds = table[:, 2] & (emitted > 0)
        view = self.view
        view["rounds"][places] += rounds.astype(np.int32)
        view["accepted_tokens"][places] += ((emitted - 1) * rounds).astype(np.int32)
        view["emitted_tokens"][places] += emitted.astype(np.int32)
        self.tokens[places] += emitted
        view["prefill_left_tokens"][places] = left
        view["attained_s"][places] += elapsed_s
        view["last_run_s"][places] = ended_s
        view["last_run_step"][places] = step
        self.ran[places] = self.asks_again
        if self.clients.charged:
            self.clients.charge(self.client[places], emitted)


class Clients:
    """Virtual token counters: lift + w_in * prompt tokens + w_out * emitted tokens. Kept only where charged."""

    def __init__(self, policy: Policy) -> None:
        names = policy.client_weights
        self.charged = names is not None
        self.w_in, self.w_out = (policy.parameters[name] for name in names) if names else (0.0, 0.0)
        self.numbers: dict[Hashable, int] = {}
        self.lift, self.prompt_tokens, self.emitted_tokens = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)

    def number(self, client: Hashable) -> int:
        """Return a client's number."""
        if not self.charged:
            return 0
        number = self.numbers.setdefault(client, len(self.numbers))
        if number == len(self.lift):
            for name in ("lift", "prompt_tokens", "emitted_tokens"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros(max(16, number), old.dtype)]))
        return number

    def counters(self) -> Floats:
        """Return what each was charged."""
        charged: Floats = self.lift + self.w_in * self.prompt_tokens + self.w_out * self.emitted_tokens
        return charged

    def returns(self, client: int, waiting: Longs) -> None:
        """Lift a client that returns to the lowest counter of those with waiting requests (VTC, algorithm 2)."""
        if len(waiting) and client not in waiting:
            counters = self.counters()
            self.lift[client] += max(0.0, counters[waiting].min() - counters[client])

    def admit(self, client: int, prompt_tokens: int) -> None:
        """Charge a prompt."""
        if self.charged:
            self.prompt_tokens[client] += prompt_tokens

    def charge(self, clients: Longs, emitted: Longs) -> None:
        """Charge emitted tokens."""
        np.add.at(self.emitted_tokens, clients, emitted)
