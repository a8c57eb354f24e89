"""vLLM's queue of waiting requests, in the order of a board: vLLM looks at the first, and takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from vllm.v1.core.sched.request_queue import RequestQueue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm.v1.request import Request

    from lapsbench.core import Longs
    from lapsbench.vllm.board import Board


class RankedQueue(RequestQueue):
    """The waiting requests; `arrange` puts them in order once a step, and they are listed once somebody looks."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.order: Longs = np.zeros(0, np.int64)  # of places, among them those of all who wait and are not listed
        self.listed: list[Request] | None = []
        self.behind: list[Request] = []
        self.count = 0

    def arrange(self, order: Longs) -> None:
        """Put those who wait in this order of places, which stays as it is until the next."""
        self.order, self.listed = order, None
        self.behind.clear()

    @property
    def items(self) -> list[Request]:
        """Those who wait, in order."""
        if self.listed is None:
            self.listed = self.board.request[self.order[self.board.waits[self.order]]].tolist()
        if self.behind:
            self.listed += self.behind
            self.behind.clear()
        return self.listed

    def _mark(self, request: Request, *, waits: bool) -> None:
        self.board.waits[self.board.place[request.request_id]] = waits
        self.count += 1 if waits else -1

    def add_request(self, request: Request) -> None:
        """Put a request behind the others."""
        self.behind.append(request)
        self._mark(request, waits=True)

    def pop_request(self) -> Request:
        """Take the first."""
        first = self.items.pop(0)
        self._mark(first, waits=False)
        return first

    def peek_request(self) -> Request:
        """Look at the first."""
        return self.items[0]

    def prepend_request(self, request: Request) -> None:
        """Put a request in front."""
        self.items.insert(0, request)
        self._mark(request, waits=True)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        """Put requests in front, the first given last."""
        for request in requests:
            self.prepend_request(request)

    def remove_request(self, request: Request) -> None:
        """Take a request out."""
        self.items.remove(request)
        self._mark(request, waits=False)

    def remove_requests(self, requests: Iterable[Request]) -> None:
        """Take requests out."""
        gone = set(requests).intersection(self.items)
        self.listed = [request for request in self.items if request not in gone]
        for request in gone:
            self._mark(request, waits=False)

    def __bool__(self) -> bool:
        """Say whether anybody waits."""
        return self.count > 0

    def __len__(self) -> int:
        """Return how many wait."""
        return self.count

    def __iter__(self) -> Iterator[Request]:
        """Return those who wait, in order."""
        return iter(list(self.items))
